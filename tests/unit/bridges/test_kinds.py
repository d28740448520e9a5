"""Kinds are data: every shipped file is sound, and an own one is checked as strictly."""

from pathlib import Path

import pytest

from adminbot.bridges.arguments import needed, spoken
from adminbot.bridges.kind import SELF_SERVICE, VERBS, Kind
from adminbot.bridges.load import load_kinds, read_kind
from adminbot.bridges.phrase import parse_phrase
from adminbot.bridging.recognising import recognised
from adminbot.commands.bridging import (
    bridge_connect,
    bridge_disconnect,
    bridge_guild,
    bridge_joinspace,
    bridge_login,
    bridge_logout,
    bridge_pm,
    bridge_relay,
    bridge_sync,
)
from common.errors import ConfigError, UserError

KINDS = load_kinds()
PROMISED = {
    "mautrix-telegram",
    "mautrix-whatsapp",
    "mautrix-signal",
    "mautrix-discord",
    "mautrix-slack",
    "mautrix-meta",
    "mautrix-gmessages",
    "matrix-appservice-discord",
    "matrix-appservice-slack",
    "matrix-appservice-irc",
    "heisenbridge",
    "teams",
    "matrix-hookshot",
    "postmoogle",
}
OWN = """
id: my-bridge
name: My bridge
network: Pigeons
family: commands
driven: script
sources: ["its page"]
bots: [pigeonbot]
vocabularies:
  - name: current
    versions: all
    commands:
      ping: {steps: [{say: ping, done: [Hum]}]}
"""


def test_every_promised_kind_is_there() -> None:
    assert set(KINDS) == PROMISED


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.id)
def test_a_kind_can_be_spoken_to(kind: Kind) -> None:
    for vocabulary in kind.vocabularies:
        for verb, command in vocabulary.commands.items():
            assert command is not None
            values = dict.fromkeys(needed(command), "word")
            for step in command.steps:
                words = spoken(kind, step, values)
                assert "{" not in words
                assert kind.prefix is None or words.startswith(kind.prefix)
            if verb in SELF_SERVICE:
                assert command.by == "person", f"{verb} must never be done for another"


ASKED_BY = {
    "login": bridge_login,
    "logout": bridge_logout,
    "pm": bridge_pm,
    "sync": bridge_sync,
    "joinspace": bridge_joinspace,
    "guilds": bridge_guild,
    "connect": bridge_connect,
    "disconnect": bridge_disconnect,
    "relay": bridge_relay,
    "unrelay": bridge_relay,
    "relay-bot": bridge_relay,
}
# What other commands, or none, hand over; see where they are typed.
HANDED = {
    "webhook": {"name"},
    "github": {"remote"},
    "allow": {"user"},
    "deny": {"user"},
    "ping": set[str](),
    "cancel": set[str](),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.id)
def test_what_a_kind_asks_for_can_be_given_in_chat(kind: Kind) -> None:
    """Whoever asks for something must be able to say what its words need."""
    for vocabulary in kind.vocabularies:
        for verb, command in vocabulary.commands.items():
            assert command is not None
            wanted = {name for name, required in needed(command).items() if required}
            given = HANDED.get(verb)
            if given is None:
                given = {each.name for each in ASKED_BY[verb].parameters}
            assert wanted <= given, f"{verb} of {vocabulary.name}"


def test_every_verb_is_asked_for_by_something() -> None:
    assert set(ASKED_BY) | set(HANDED) == VERBS


def test_what_is_left_out_has_its_kinds_own_default() -> None:
    def said(kind: str, vocabulary: str | None = None) -> str:
        command = KINDS[kind].vocabulary(vocabulary).commands["sync"]
        assert command is not None
        assert not any(needed(command).values())
        return spoken(KINDS[kind], command.steps[0], {})

    assert said("mautrix-telegram") == "!tg sync"
    assert said("mautrix-whatsapp") == "!wa sync groups"
    assert said("mautrix-whatsapp", "legacy") == "!wa sync groups --create-portals"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("mautrix-telegram", "#### Authentication\n**login-qr** - Log in by scanning", "python"),
        ("mautrix-telegram", "**list-logins** - List your logins", "bridgev2"),
        ("mautrix-whatsapp", "**delete-session** - Delete session information", "legacy"),
        ("mautrix-whatsapp", "**list-logins** - List your logins", "bridgev2"),
        ("mautrix-whatsapp", "list-logins, delete-session", None),
        ("mautrix-whatsapp", "Hello.", None),
    ],
)
def test_a_version_is_recognised_by_its_help(kind: str, text: str, expected: str | None) -> None:
    found = recognised(KINDS[kind].vocabularies, text)
    assert (found.name if found else None) == expected


def test_another_versions_no_is_understood_too() -> None:
    known = KINDS["mautrix-telegram"].unknown
    for text in (
        "Unknown command. Try `help` for help.",
        "Unknown command. Try `!tg help` for help.",
        "Unknown command, use the `help` command for help.",
    ):
        assert any(parse_phrase(phrase).found_in(text) is not None for phrase in known), text


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.id)
def test_several_vocabularies_can_be_told_apart(kind: Kind) -> None:
    if len(kind.vocabularies) > 1:
        signs = [set(each.recognised_by) for each in kind.vocabularies]
        assert all(signs)
        assert not set.intersection(*signs)


def test_nothing_that_removes_people_from_rooms_is_a_command() -> None:
    said = {
        step.say
        for kind in KINDS.values()
        for vocabulary in kind.vocabularies
        for command in vocabulary.commands.values()
        if command is not None
        for step in command.steps
    }
    assert not [words for words in said if "delete" in words or "sudo" in words]


def test_an_own_kind_joins_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "my-bridge.yaml"
    path.write_text(OWN)

    assert load_kinds([path])["my-bridge"].network == "Pigeons"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("id: my-bridge", "id: My Bridge"), "id"),
        (("ping: {", "pong: {"), "there is no command “pong”"),
        (("done: [Hum]", "done: []"), "nothing says when “ping” is done"),
        (("done: [Hum]", 'done: ["{x} hum"]'), "must begin with words"),
        (("name: My bridge", "nom: My bridge"), "unknown field"),
        (("versions: all", "versions: all\n    like: nothing"), "there is no family “nothing”"),
        (("bots: [pigeonbot]", "bots: [pigeonbot"), "not valid YAML"),
    ],
)
def test_a_mistake_in_an_own_kind_is_named(change: tuple[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_kind(OWN.replace(*change), "my-bridge.yaml", {})


@pytest.mark.parametrize(
    "hostile",
    [
        "#a;FORGET @x:y",
        "#a b",
        "#a\nQUIT",
        "--admin",
        "#a;b",
        "`x`",
        '"x',
        "\x07",
        "#" + "a" * 300,
    ],
)
def test_an_argument_cannot_become_another_command(hostile: str) -> None:
    kind = KINDS["heisenbridge"]
    command = kind.newest.commands["connect"]
    assert command is not None

    with pytest.raises(UserError):
        spoken(kind, command.steps[2], {"room": "!room", "remote": hostile})


def test_a_number_below_zero_is_an_argument() -> None:
    kind = KINDS["mautrix-telegram"]
    command = kind.newest.commands["connect"]
    assert command is not None

    assert spoken(kind, command.steps[0], {"remote": "-1001234"}) == "!tg bridge -1001234"


def test_what_is_missing_is_named() -> None:
    kind = KINDS["mautrix-telegram"]
    command = kind.newest.commands["pm"]
    assert command is not None

    with pytest.raises(UserError, match="needs to be told the who"):
        spoken(kind, command.steps[0], {})
