"""Every option can come from the environment, and its faults name the variable."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.load import load
from common.config.options import Kind, schema
from common.config.schema import Config
from common.errors import ConfigError
from tests.unit.config.builders import VALID

REQUIRED = {
    "STEWARD__HOMESERVER__URL": "http://127.0.0.1:8008",
    "STEWARD__HOMESERVER__SERVER_NAME": "example.org",
    "STEWARD__APPSERVICE__AS_TOKEN": "as-token-nobody-may-see",
    "STEWARD__APPSERVICE__HS_TOKEN": "hs-token-nobody-may-see",
    "STEWARD__ENCRYPTION__PICKLE_KEY": "pickle-key-nobody-may-see",
}


def from_environment(**more: str) -> Config:
    return load(None, REQUIRED | more)


def refusal(**more: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_environment(**more)
    sentence = str(caught.value)
    assert "nobody-may-see" not in sentence
    return sentence


def test_the_environment_alone_is_enough() -> None:
    assert from_environment().homeserver.server_name == "example.org"


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(VALID + "rooms:\n  sweep_concurrency: wrong, but never used\n")

    config = load(path, {"STEWARD__ROOMS__SWEEP_CONCURRENCY": "9", "PATH": "/bin"})

    assert config.rooms.sweep_concurrency == 9


def test_text_becomes_the_type_of_the_schema() -> None:
    config = from_environment(
        STEWARD__ADMINBOT__ENABLED="false",
        STEWARD__ADMINBOT__PREFIXES="!steward, ?",
        STEWARD__ADMINBOT__SERVER_ADMINS='["@a:example.org", "@b:example.org"]',
        STEWARD__ADMINBOT__DISPLAYNAME="42",
        STEWARD__AUDITBOT__DESTINATION="null",
        STEWARD__AUDITBOT__S3__REGION="eu-central-1",
        STEWARD__AUDITBOT__S3__CA_FILE="/etc/ca.pem",
        STEWARD__AUDITBOT__SEGMENT_MAX_AGE_SECONDS="0.5",
        STEWARD__APPSERVICE__LISTEN_PORT="1234",
        STEWARD__LOGGING__JSON="true",
    )

    assert config.adminbot.enabled is False
    assert config.adminbot.prefixes == ("!steward", "?")
    assert config.adminbot.server_admins == ("@a:example.org", "@b:example.org")
    assert config.adminbot.displayname == "42"
    assert config.auditbot.destination is None
    assert config.auditbot.s3.region == "eu-central-1"
    assert config.auditbot.s3.ca_file == "/etc/ca.pem", (
        "a key that ends in _file is no secret file"
    )
    assert config.auditbot.segment_max_age_seconds == 0.5
    assert config.appservice.listen_port == 1234
    assert config.logging.json is True


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from a file\r\n")
    variables = {**REQUIRED, "STEWARD__ENCRYPTION__PICKLE_KEY_FILE": str(file)}
    del variables["STEWARD__ENCRYPTION__PICKLE_KEY"]

    assert load(None, variables).encryption.pickle_key.reveal() == "from a file"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("STEWARD__HOMESERVR__URL", "x", "did you mean STEWARD__HOMESERVER__URL?"),
        ("STEWARD__ROOMS__SWEEP_CONCURENCY", "x", "STEWARD__ROOMS__SWEEP_CONCURRENCY"),
        ("STEWARD__rooms__federated", "true", "did you mean STEWARD__ROOMS__FEDERATED?"),
        ("STEWARD__ROOMS", "x", "a section, not a setting"),
        ("STEWARD__AUDITBOT__S3", "x", "a section, not a setting"),
        ("STEWARD__ZZZZZZ", "x", "docs/reference/config.md"),
        ("STEWARD__", "x", "no such setting"),
        ("STEWARD__ROOMS__FEDERATED", "", "set but empty"),
        ("STEWARD__ROOMS__FEDERATED", "yes", "true or false, not the text “yes”"),
        ("STEWARD__ROOMS__FEDERATED_FILE", "/x", "only a secret"),
        ("STEWARD__ROOMS__SWEEP_CONCURRENCY", "many", "a whole number from 1 to 32"),
        ("STEWARD__ROOMS__SWEEP_CONCURRENCY", "33", "from 1 to 32"),
        ("STEWARD__ROOMS__SWEEP_INTERVAL_SECONDS", "nan", "seconds above 0"),
        ("STEWARD__ROOMS__SWEEP_INTERVAL_SECONDS", "null", "seconds above 0"),
        ("STEWARD__ADMINBOT__PREFIXES", "[a", "is not a list"),
        ("STEWARD__ADMINBOT__PREFIXES", "[1]", "a list of texts"),
        ("STEWARD__AUDITBOT__RETENTION_CLASSES", "board", "is not a list of sections"),
        ("STEWARD__HOMESERVER__URL", "example.org", "http:// or https://"),
        ("STEWARD__APPSERVICE__AS_TOKEN_FILE", "/x", "are both set"),
        ("STEWARD__HOMESERVER__REGISTRATION_SHARED_SECRET_FILE", "/nowhere", "there is no file"),
        ("STEWARD__HOMESERVER__REGISTRATION_SHARED_SECRET_FILE", "/", "is a directory"),
        ("STEWARD__HOMESERVER__REGISTRATION_SHARED_SECRET_FILE", "/dev/null", "is empty"),
    ],
)
def test_a_fault_names_the_variable(name: str, text: str, words: str) -> None:
    sentence = refusal(**{name: text})

    assert name in sentence
    assert words in sentence
    assert "line" not in sentence.partition(words)[0].replace("__", "")


def test_a_missing_value_names_its_variable() -> None:
    with pytest.raises(ConfigError, match="STEWARD__HOMESERVER__URL is not set"):
        load(None, {"STEWARD__ROOMS__FEDERATED": "true"})


WITH = {
    "approvers": {
        "STEWARD__AUDITBOT__APPROVERS": (
            "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
        ),
        "STEWARD__AUDITBOT__APPROVALS_NEEDED": "1",
    },
}
"""What goes together."""


@pytest.mark.parametrize("option", list(schema().options()), ids=lambda option: option.dotted)
def test_every_option_can_come_from_the_environment(option) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  # a parameter of pytest's
    given_text = {
        Kind.TEXT: "example" if option.example is None else str(option.example),
        Kind.SECRET: "postgres://u:p@host/db",
        Kind.WHOLE_NUMBER: str(option.example if option.default is None else option.default),
        Kind.NUMBER: "7",
        Kind.SWITCH: "true",
        Kind.GROUPS: "[{name: board, keep_days: null, rooms: ['!a*']}]",
        Kind.LIST: "!a" if option.path[-1] != "server_admins" else "@a:example.org",
    }[option.kind]
    if option.path[-1] == "check_networks":
        given_text = "10.0.0.0/8"
    if option.path[-1] in {"level", "destination", "share_keys_with", "seal", "compression"}:
        given_text = option.default
    if option.path[-1] == "age_recipients":
        given_text = ", ".join(f"age1{letter * 58}" for letter in "qp")
    pair = {"access_key_id": "SECRET_ACCESS_KEY", "secret_access_key": "ACCESS_KEY_ID"}
    more = {option.variable: given_text, **WITH.get(option.path[-1], {})}
    if option.path[-1] == "sse_kms_key_id":
        more["STEWARD__AUDITBOT__S3__SSE"] = "aws:kms"
    if option.path[-1] in {"erasable", "session_keys"}:
        keys = (f"age1{letter * 58}" for letter in "qp")
        more["STEWARD__AUDITBOT__AGE_RECIPIENTS"] = ", ".join(keys)
    if option.path[-1] in pair:
        more[f"STEWARD__AUDITBOT__S3__{pair[option.path[-1]]}"] = "x"

    value: object = from_environment(**more)
    for name in option.path:
        value = getattr(value, name)

    assert value is not None


names = st.sampled_from([option.variable for option in schema().options()])


@given(st.dictionaries(names | names.map(lambda name: f"{name}_FILE"), st.text(max_size=12)))
def test_any_environment_is_a_configuration_or_one_sentence(variables: dict[str, str]) -> None:
    try:
        load(None, REQUIRED | variables)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017  # not every environment is refused
