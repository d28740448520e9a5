"""Which kind a bridge is, and what its registration tells."""

import msgspec
import pytest

from adminbot.bridges.instance import (
    Bridge,
    BridgeSettings,
    Provisioning,
    assembled,
    bots_of,
    guess,
    name_for,
    read_registration,
    shown_limit,
)
from adminbot.bridges.load import load_kinds
from adminbot.bridges.namespaces import Owners, namespaces
from common.errors import ConfigError
from common.ids import UserId

KINDS = load_kinds()
SERVER = "example.org"


def test_no_bridges_bot_is_another_bridges_ghost() -> None:
    of_slack = namespaces(SERVER, ["^@slack_.*:example.org$"], [UserId("@slackbot:example.org")])
    other_bot = UserId("@slack_bot:example.org")
    owners = Owners({"slack": of_slack, "oldslack": namespaces(SERVER, [], [other_bot])})
    assert owners.owner_of(other_bot) is None
    assert owners.owner_of(UserId("@slack_u1:example.org")) == "slack"


@pytest.mark.parametrize(
    ("bot", "protocols", "registered", "kind"),
    [
        ("whatsappbot", (), "", "mautrix-whatsapp"),
        ("heisenbridge", (), "heisenbridge", "heisenbridge"),
        ("slackbot", ("slackgo",), "", "mautrix-slack"),
        ("slackbot", (), "", "mautrix-slack"),
        ("_slack_bot", (), "", "matrix-appservice-slack"),
        ("appservice-irc", ("irc",), "", "matrix-appservice-irc"),
        ("strange", ("telegram",), "", "mautrix-telegram"),
        ("strange", (), "mautrix-signal", "mautrix-signal"),
        ("hookshot", (), "matrix-hookshot", "matrix-hookshot"),
    ],
)
def test_a_kind_is_told_from_several_signs(
    bot: str, protocols: tuple[str, ...], registered: str, kind: str
) -> None:
    found = guess(KINDS.values(), UserId(f"@{bot}:{SERVER}"), protocols, registered)
    assert found is not None
    assert found.id == kind


def test_an_unknown_bot_is_of_no_kind() -> None:
    assert guess(KINDS.values(), UserId(f"@stranger:{SERVER}"), ("pigeons",), "pigeons") is None


def test_a_mautrix_bridge_has_its_bot_in_its_namespaces() -> None:
    registration = read_registration(
        {
            "id": "telegram",
            "url": "http://127.0.0.1:29317",
            "as_token": "a",
            "hs_token": "b",
            "sender_localpart": "Zx8randomrandom",
            "namespaces": {
                "users": [
                    {"regex": r"^@telegram_.*:example\.org$", "exclusive": True},
                    {"regex": r"^@telegrambot:example\.org$", "exclusive": True},
                ]
            },
        },
        "telegram.yaml",
        SERVER,
    )
    assert bots_of(registration, SERVER)[0] == f"@telegrambot:{SERVER}"
    bridge = assembled(
        "telegram", kinds=KINDS, server=SERVER, registration=registration, source="registration"
    )
    assert bridge.kind.id == "mautrix-telegram"
    assert bridge.namespaces.covers(UserId(f"@telegram_1:{SERVER}"))
    assert not bridge.namespaces.covers(UserId(f"@telegrambot:{SERVER}"))
    assert "as_token" not in repr(registration).replace("as_token=", "")


def of_kind(kind: str, settings: BridgeSettings) -> Bridge:
    full = msgspec.structs.replace(settings, kind=kind, bot=f"@bot:{SERVER}")
    return assembled("b", kinds=KINDS, server=SERVER, settings=full, source="settings")


def test_only_what_has_the_interface_of_version_3_is_told_of_one() -> None:
    drawn = BridgeSettings(provisioning=Provisioning(url="http://127.0.0.1:1", secret_file="s"))
    assert of_kind("mautrix-whatsapp", drawn).settings.provisioning
    for kind in ("mautrix-telegram", "mautrix-discord"):
        with pytest.raises(ConfigError, match="no provisioning interface of version 3"):
            of_kind(kind, drawn)
        newer = msgspec.structs.replace(drawn, vocabulary="bridgev2")
        assert of_kind(kind, newer).settings.provisioning
    with pytest.raises(ConfigError, match="no provisioning"):
        of_kind("heisenbridge", drawn)


def test_a_bridge_elsewhere_has_nobody_here() -> None:
    public = BridgeSettings(kind="matrix-appservice-irc", bot="@appservice-irc:public.example")
    bridge = assembled("irc", kinds=KINDS, server=SERVER, settings=public, source="settings")
    assert not bridge.namespaces.covers(UserId(f"@irc_carol:{SERVER}"))
    here = of_kind("matrix-appservice-irc", BridgeSettings())
    assert here.namespaces.covers(UserId(f"@irc_carol:{SERVER}"))


def test_metrics_are_where_somebody_says_they_are() -> None:
    kind = "matrix-appservice-irc"
    assert of_kind(kind, BridgeSettings()).metrics is None
    assert of_kind(kind, BridgeSettings(url="http://b:1/")).metrics == "http://b:1/metrics"
    said = BridgeSettings(url="http://b:1", metrics_url="http://b:2/m")
    assert of_kind(kind, said).metrics == "http://b:2/m"
    assert of_kind("heisenbridge", BridgeSettings(url="http://b:1")).metrics is None


def test_names_are_made_to_fit_and_different() -> None:
    assert name_for("Matrix Hookshot!", []) == "matrix-hookshot"
    assert name_for("irc", ["irc", "irc-2"]) == "irc-3"
    assert name_for("…", []) == "bridge"


def test_what_was_said_in_chat_goes_before_the_configuration() -> None:
    assert shown_limit(5, None) == 5
    assert shown_limit(5, 9) == 9
    assert shown_limit(5, -1) is None
    assert shown_limit(None, None) is None
