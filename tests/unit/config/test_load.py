"""Every wrong configuration is one sentence that names the place and says what to write."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.load import load, load_text
from common.config.options import schema
from common.config.schema import Config
from common.errors import ConfigError
from tests.unit.config.builders import AS_TOKEN, HS_TOKEN, PICKLE_KEY, VALID


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "config.yaml")
    return str(caught.value)


def test_a_minimal_configuration_has_the_defaults() -> None:
    config = load_text(VALID, "config.yaml")

    assert config.homeserver.server_name == "example.org"
    assert config.appservice.as_token.reveal() == AS_TOKEN
    assert config.auditbot.destination == "file:archive"
    assert config.adminbot.prefixes == ("!admin", "!")


def test_every_kind_of_value_is_read() -> None:
    config = load_text(
        VALID
        + """
adminbot: {enabled: false, prefixes: ["?"], server_admins: ["@alice:example.org"]}
auditbot:
  destination: null
  s3:
    endpoint_url: https://s3.example.org/
    path_style: true
  segment_max_age_seconds: 0.5
rooms:
feeds: ~
""",
        "config.yaml",
    )

    assert not config.adminbot.enabled
    assert config.adminbot.prefixes == ("?",)
    assert config.adminbot.server_admins == ("@alice:example.org",)
    assert config.auditbot.destination is None
    assert config.auditbot.s3.endpoint_url == "https://s3.example.org", "no slash at its end"
    assert config.auditbot.s3.path_style
    assert config.auditbot.segment_max_age_seconds == 0.5
    assert config.rooms.sweep_concurrency == 4, "an empty section is a section of defaults"


CLASSES = (
    VALID
    + """\
auditbot:
  retention_classes:
    - name: board
      keep_days: 3650
      rooms: ["#board-*:example.org", "!abc:example.org"]
    - {name: chats, keep_days: null, direct: true}
"""
)


def test_retention_classes_are_read_in_order() -> None:
    board, chats = load_text(CLASSES, "config.yaml").auditbot.retention_classes

    assert (board.name, board.keep_days) == ("board", 3650)
    assert board.rooms == ("#board-*:example.org", "!abc:example.org")
    assert (chats.name, chats.keep_days, chats.direct) == ("chats", None, True)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("name: chats", "name: board", "two classes “board”"),
        ("name: chats", "name: default", "keep_days says how long"),
        ("name: chats", "name: Chats", "line 14: auditbot.retention_classes.name must be up to"),
        ("name: chats, ", "", "line 14: auditbot.retention_classes.name is missing"),
        ("keep_days: 3650", "keep_days: 0", "line 12: auditbot.retention_classes.keep_days must"),
        ("keep_days: null, ", "", "auditbot.retention_classes.keep_days is missing"),
        (", direct: true", "", "does not say which rooms the class “chats” is for"),
        ("!abc:example.org", "abc:example.org", "no room ID"),
        ("direct: true", "drect: true", "did you mean “direct”"),
        ("direct: true", "direct: maybe", "must be true or false"),
        ("- name: board", "- board\n    - name: board", "single values here"),
    ],
)
def test_a_retention_class_that_cannot_be_used_is_named(
    before: str, after: str, words: str
) -> None:
    assert before in CLASSES

    assert words in refusal(CLASSES.replace(before, after))


@pytest.mark.parametrize("value", ["board", "{a: 1}", "[1]", "[[a]]"])
def test_what_is_no_list_of_retention_classes_is_refused(value: str) -> None:
    sentence = refusal(VALID + f"auditbot:\n  retention_classes: {value}\n")

    assert "config.yaml, line 10" in sentence


def test_a_list_of_sections_elsewhere_is_refused() -> None:
    sentence = refusal(VALID + "adminbot:\n  prefixes: [{a: 1}]\n")

    assert (
        sentence
        == "config.yaml, line 10: a list holds single values here, no lists and no sections."
    )


WITHOUT_SERVER_NAME = VALID.replace("  server_name: example.org\n", "")
WITHOUT_APPSERVICE = VALID.replace(VALID[VALID.index("appservice") : VALID.index("encr")], "")

ANNA = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
AGE_KEYS = json.dumps([f"age1{letter * 58}" for letter in "qp"])

SENTENCES: list[tuple[str, int, list[str]]] = [
    # Unknown keys.
    (VALID + "adminbott: {}\n", 9, ["“adminbott”", "did you mean “adminbot”?"]),
    (VALID + "adminbot:\n  enablde: true\n", 10, ["“enablde”", "adminbot", "“enabled”"]),
    (VALID + "adminbot:\n  display-name: x\n", 10, ["“display-name”", "“displayname”"]),
    (VALID + "adminbot:\n  listen_port: 1\n", 10, ["belongs below “appservice:”"]),
    (VALID + "adminbot:\n  zzz: 1\n", 10, ["“zzz”", "its keys are enabled, localpart"]),
    (VALID + "auditbot:\n  s3:\n    regiom: x\n", 11, ["auditbot.s3", "did you mean “region”?"]),
    (VALID + "adminbot:\n  enabled: true\n  enabled: true\n", 11, ["second time", "line 10"]),
    # Missing.
    (WITHOUT_SERVER_NAME, 1, ["homeserver.server_name is missing", "“server_name: example.org”"]),
    (WITHOUT_APPSERVICE, 5, ["appservice.as_token is missing", "“as_token: …”", "registration"]),
    ("", 1, ["homeserver.url is missing"]),
    ("# nothing\n", 1, ["homeserver.url is missing"]),
    (VALID.replace("encryption:\n", "encryption:\n#"), 7, ["encryption.pickle_key is missing"]),
    (VALID.replace("example.org", ""), 3, ["homeserver.server_name has no value"]),
    (VALID.replace(AS_TOKEN, '""'), 5, ["appservice.as_token is empty", "steward init"]),
    (VALID.replace(AS_TOKEN, '"  "'), 5, ["appservice.as_token is empty"]),
    # Wrong types.
    (VALID + "adminbot: yes\n", 9, ["adminbot is a section"]),
    (VALID + "adminbot: [a]\n", 9, ["adminbot is a section"]),
    (VALID + "adminbot:\n  enabled: yes\n", 10, ["true or false", "not the text “yes”"]),
    (VALID + "adminbot:\n  enabled: 1\n", 10, ["true or false", "not 1"]),
    (VALID + "adminbot:\n  enabled:\n", 10, ["has no value", "remove the line"]),
    (VALID + 'rooms:\n  sweep_concurrency: "4"\n', 10, ["a whole number", "not the text “4”"]),
    (VALID + "rooms:\n  sweep_concurrency: 4.5\n", 10, ["a whole number from 1 to 32", "not 4.5"]),
    (VALID + "rooms:\n  sweep_interval_seconds: 1h\n", 10, ["a number of seconds", "“1h”"]),
    (VALID + "rooms:\n  federated: {a: b}\n", 10, ["true or false, not a section"]),
    (VALID + "adminbot:\n  displayname: 7\n", 10, ["must be text", "not 7", "double quotes"]),
    (VALID + "adminbot:\n  displayname: true\n", 10, ["not true; put it in double quotes"]),
    (VALID + "adminbot:\n  displayname: [a]\n", 10, ["not a list"]),
    (VALID + "adminbot:\n  prefixes: x\n", 10, ['a list of texts, for example ["one", "two"]']),
    (VALID + "adminbot:\n  prefixes: [1]\n", 10, ["a list of texts"]),
    (VALID + "adminbot:\n  prefixes: [[a]]\n", 10, ["no lists and no sections"]),
    (VALID.replace(AS_TOKEN, "12345"), 5, ["as_token must be text", "double quotes"]),
    (VALID.replace(AS_TOKEN, "{a: b}"), 5, ["must be text, or {file: PATH}"]),
    (VALID.replace(AS_TOKEN, '"a\\nb"'), 5, ["holds a line break"]),
    ("- a\n", 1, ["must be sections"]),
    ("text\n", 1, ["must be sections"]),
    # Out of range.
    (VALID + "rooms:\n  sweep_concurrency: 0\n", 10, ["from 1 to 32", "not 0"]),
    (VALID + "rooms:\n  sweep_interval_seconds: 0\n", 10, ["seconds above 0", "not 0"]),
    (VALID + "rooms:\n  sweep_interval_seconds: .inf\n", 10, ["seconds above 0"]),
    (VALID + "rooms:\n  sweep_interval_seconds: .nan\n", 10, ["seconds above 0"]),
    (VALID + f"rooms:\n  sweep_concurrency: {'9' * 40}\n", 10, ["not so large a number"]),
    (VALID.replace("as_token", "listen_port: 70000\n  as_token"), 5, ["from 1 to 65535", "70000"]),
    (VALID.replace("as_token", "max_body_bytes: 1\n  as_token"), 5, ["bytes, at least 33554432"]),
    (VALID + "logging:\n  level: LOUD\n", 10, ["DEBUG, INFO, WARNING or ERROR", "“LOUD”"]),
    (VALID + "adminbot:\n  avatar_url: http://x/y\n", 10, ["mxc://"]),
    (VALID + "adminbot:\n  displayname: ''\n", 10, ["not empty"]),
    # Not YAML.
    (VALID + "adminbot:\n\tenabled: true\n", 10, ["tab", "spaces"]),
    (VALID + "adminbot:\n  server_admins: [@a:b]\n", 10, ["“@”", "double quotes"]),
    (VALID + 'adminbot:\n  displayname: "x\n\n\n', 10, ["not closed"]),
    (VALID + "adminbot:\n  prefixes: [a\n", 10, ["brackets is not closed"]),
    (VALID + "adminbot:\n   enabled: true\n  localpart: a\n", 11, ["indentation"]),
    (VALID + "adminbot:\n  displayname: a: b\n", 10, ["colon"]),
    (VALID + "adminbot\n", 9, ["colon"]),
    (VALID + "---\na: b\n", 9, ["only one document"]),
    (VALID + "adminbot:\n  displayname: !secret x\n", 10, ["double quotes"]),
    (VALID + "adminbot: &a\n  enabled: *b\n", 10, ["“*”"]),
    (VALID + "adminbot: &a\n  b: *a\n", 9, ["nested too deeply"]),
    (VALID + 'adminbot:\n  displayname: "a\\qb"\n', 10, ["single quotes"]),
    # Between values.
    (VALID.replace(HS_TOKEN, AS_TOKEN), 6, ["the same as as_token"]),
    (VALID.replace(AS_TOKEN, "a b"), 5, ["without blanks"]),
    (VALID.replace(AS_TOKEN, "ä"), 5, ["ASCII"]),
    (VALID + "adminbot:\n  localpart: auditbot\n", 10, ["the same as adminbot.localpart"]),
    (VALID + "auditbot:\n  localpart: _steward\n", 10, ["appservice.sender_localpart"]),
    (VALID + "auditbot:\n  localpart: Audit\n", 10, ["lower-case"]),
    (VALID + 'auditbot:\n  localpart: "@a:b"\n', 10, ["between “@” and “:”"]),
    (VALID + f"auditbot:\n  localpart: {'a' * 250}\n", 10, ["longer than 255 bytes"]),
    (
        VALID + "auditbot: {enabled: false}\nadminbot: {enabled: false}\n",
        9,
        ["at least one bot must be enabled"],
    ),
    (VALID.replace("example.org", "https://example.org/"), 3, ["a name, not an address"]),
    (VALID.replace("example.org", "ex ample"), 3, ["is not a server name"]),
    (VALID.replace("http://127.0.0.1:8008", "127.0.0.1"), 2, ["http:// or https://"]),
    (VALID.replace("127.0.0.1:8008", "x:99999"), 2, ["is not an address"]),
    (VALID.replace("127.0.0.1:8008", "x/y"), 2, ["must not hold a path"]),
    (VALID.replace("127.0.0.1:8008", "u:hunter2@x"), 2, ["user name or password"]),
    (VALID + "database:\n  url: mysql://u:hunter2@h/d\n", 10, ["postgres://", "sqlite:FILE"]),
    (VALID + "database:\n  url: postgres://u:hunter/2@h/d\n", 10, ["percent-encoded"]),
    (VALID + "database:\n  url: 'sqlite:'\n", 10, ["sqlite:FILE"]),
    (VALID + "database:\n  url: 'sqlite::memory:'\n", 10, ["sqlite:FILE"]),
    (VALID + "auditbot:\n  erasable: true\n", 10, ["age_recipients is not"]),
    (VALID + "auditbot:\n  seal: content\n", 10, ["nobody to whom content"]),
    (VALID + "auditbot:\n  seal: half\n", 10, ["segments or content"]),
    (
        VALID + f"auditbot:\n  erasable: person\n  age_recipients: {AGE_KEYS}\n",
        10,
        ["write “seal: content” too"],
    ),
    (VALID + "auditbot:\n  erasable: week\n", 10, ["true, false, day or person"]),
    (VALID + "auditbot:\n  session_keys: true\n", 10, ["age_recipients is not"]),
    (
        VALID
        + f"auditbot:\n  session_keys: true\n  ciphertext: false\n  age_recipients: {AGE_KEYS}\n",
        10,
        ["nothing that the keys could open again"],
    ),
    (VALID + "auditbot:\n  compression: lz4\n", 10, ["zstd or gzip"]),
    (VALID + "auditbot:\n  approvers: [anna.example.com]\n", 10, ["is no verifier key"]),
    (
        VALID + f"auditbot:\n  approvers: [{ANNA}, {ANNA}]\n  approvals_needed: 2\n",
        10,
        ["names somebody twice"],
    ),
    (VALID + f"auditbot:\n  approvers: [{ANNA}]\n", 10, ["approvals_needed is not"]),
    (
        VALID + f"auditbot:\n  approvers: [{ANNA}]\n  approvals_needed: 2\n",
        11,
        ["nothing could ever be approved"],
    ),
    (VALID + "auditbot:\n  approvals_needed: 1\n", 10, ["approvers names 0"]),
    (VALID + "auditbot:\n  destination: ftp://x\n", 10, ["s3://BUCKET/PREFIX", "“ftp://x”"]),
    (VALID + "auditbot:\n  destination: s3:x\n", 10, ["names no bucket"]),
    (VALID + "auditbot:\n  destination: s3://A_B/x\n", 10, ["lower-case"]),
    (VALID + "auditbot:\n  destination: s3://abc/../x\n", 10, ["“..”"]),
    (VALID + "auditbot:\n  destination: file://host/x\n", 10, ["names no directory"]),
    (VALID + "auditbot:\n  destination: 'file:'\n", 10, ["names no directory"]),
    (VALID + "auditbot:\n  s3:\n    access_key_id: k\n", 11, ["secret_access_key is not"]),
    (VALID + "auditbot:\n  s3:\n    secret_access_key: k\n", 11, ["access_key_id is not"]),
    (VALID + "adminbot:\n  prefixes: []\n", 10, ["at least one prefix"]),
    (VALID + 'adminbot:\n  prefixes: ["a b"]\n', 10, ["blank"]),
    (VALID + "adminbot:\n  server_admins: [alice]\n", 10, ["no user ID", "@alice:example.org"]),
    (VALID + 'adminbot:\n  server_admins: ["@a:b.c"]\n', 10, ["not on example.org"]),
    (VALID + 'adminbot:\n  control_rooms: ["#a:b"]\n', 10, ["no room ID"]),
    (VALID + "adminbot:\n  check_networks: [10.0.0.1/8]\n", 10, ["no network", "10.0.0.0/8"]),
    (VALID.replace("as_token", "id: a/b\n  as_token"), 5, ["appservice.id", "letters, digits"]),
]


@pytest.mark.parametrize(("text", "line", "words"), SENTENCES)
def test_a_fault_is_one_sentence_with_its_line(text: str, line: int, words: list[str]) -> None:
    sentence = refusal(text)

    assert sentence.startswith(f"config.yaml, line {line}: ")
    for word in words:
        assert word in sentence
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence


@pytest.mark.parametrize("text", [text for text, _, _ in SENTENCES])
def test_no_sentence_shows_a_secret(text: str) -> None:
    sentence = refusal(text)

    for secret in (AS_TOKEN, HS_TOKEN, PICKLE_KEY, "hunter"):
        assert secret not in sentence


@pytest.mark.parametrize("token", ["*s3kr1t", "&s3kr1t", "!s3kr1t", "@s3kr1t", "%s3kr1t", "`s3kr1t",
                                   "[s3kr1t", "{s3kr1t", '"s3kr1t', "a: s3kr1t", "{s3kr1t: 1}",
                                   "[s3kr1t]", '"s3\\kr1t"'])  # fmt: skip
def test_a_secret_that_yaml_stumbles_over_is_not_repeated(token: str) -> None:
    assert "kr1t" not in refusal(VALID.replace(AS_TOKEN, token))


def test_a_configuration_that_is_printed_shows_no_secret() -> None:
    shown = repr(load_text(VALID, "config.yaml"))

    assert AS_TOKEN not in shown
    assert PICKLE_KEY not in shown


def test_every_pattern_has_words_for_people() -> None:
    for option in schema().options():
        if "pattern='" in str(option.annotation):
            assert option.expected not in {"text", "text that is not empty"}, option.dotted


def test_yaml_1_1_does_not_come_back_by_a_directive() -> None:
    assert "put it in double quotes" in refusal("%YAML 1.1\n---\n" + VALID + "adminbot: yes\n")


# Files.


def write(directory: Path, text: str, name: str = "config.yaml", mode: int = 0o600) -> Path:
    path = directory / name
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + VALID.replace("\n", "\r\n").encode())

    assert load(path, {}).appservice.as_token.reveal() == AS_TOKEN


def test_a_secret_comes_from_a_file_without_its_last_line_break(tmp_path: Path) -> None:
    secret = write(tmp_path, "from-a-file\n", "as_token")
    path = write(tmp_path, VALID.replace(AS_TOKEN, f"{{file: {secret}}}"))

    assert load(path, {}).appservice.as_token.reveal() == "from-a-file"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"one\ntwo\n", "line break"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * 300_000, "too large"),
    ],
)
def test_a_secret_file_that_holds_no_secret_is_refused(
    tmp_path: Path, content: bytes, words: str
) -> None:
    secret = tmp_path / "as_token"
    secret.write_bytes(content)
    path = write(tmp_path, VALID.replace(AS_TOKEN, f"{{file: {secret}}}"))

    with pytest.raises(ConfigError, match=words) as caught:
        load(path, {})

    assert str(caught.value).startswith(f"{path}, line 5")
    assert str(secret) in str(caught.value)


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, VALID.replace(AS_TOKEN, "{file: /nowhere/token}"))

    with pytest.raises(ConfigError, match="line 5: there is no file /nowhere/token"):
        load(path, {})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no file .*steward init"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"a: \xff\n"), "line 1: this is not UTF-8"),
        (lambda path: path.write_bytes(b"#" * 300_000), "larger than 256 KiB"),
        (lambda path: path.write_bytes(b"a: \x00\n"), "not YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "config.yaml"
    make(path)

    with pytest.raises(ConfigError, match=words):
        load(path, {})


def test_a_file_with_secrets_that_all_can_read_is_warned_about(tmp_path: Path) -> None:
    secret = write(tmp_path, "from-a-file\n", "as_token", mode=0o644)
    path = write(tmp_path, VALID.replace(AS_TOKEN, f"{{file: {secret}}}"), mode=0o604)
    warnings: list[object] = []

    load(path, {}, warn=lambda sentence, **values: warnings.append(values["file"]))

    assert warnings == [str(path), str(secret)]


def test_private_files_are_not_warned_about(tmp_path: Path) -> None:
    warnings: list[str] = []

    load(write(tmp_path, VALID), {}, warn=lambda sentence, **values: warnings.append(sentence))

    assert warnings == []


# Anything at all.

keys = st.sampled_from(
    [option.path[-1] for option in schema().options()]
    + [option.path[0] for option in schema().options()]
)
words = st.one_of(keys, st.text(max_size=8), st.sampled_from(["null", "true", "1", "s3://abc"]))
pieces = st.one_of(
    words,
    st.sampled_from(
        [
            ": ",
            ":\n  ",
            "\n",
            "\n  ",
            "\n    ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            '"',
            "'",
            "&a ",
            "*a",
            "!",
            "!!int ",
            "|",
            ">",
            "#",
            "---\n",
            "%",
            "?",
            "<<",
            "\t",
            "\\",
            ".nan",
            "0x",
            "\x85",
        ]
    ),
)


def loaded_or_refused(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(load_text(text, "config.yaml"), Config)


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_one_sentence(text: str) -> None:
    loaded_or_refused(text)


@given(st.lists(pieces, max_size=25).map("".join))
def test_anything_like_yaml_is_a_configuration_or_one_sentence(text: str) -> None:
    loaded_or_refused(text)


@given(st.lists(pieces, max_size=6).map("".join), st.sampled_from(list(schema().options())))
def test_anything_as_a_value_is_a_configuration_or_one_sentence(text: str, option: object) -> None:
    path = option.path  # type: ignore[attr-defined]  # its static type is a wider one
    lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate(path)]

    loaded_or_refused("\n".join(lines) + f" {text}\n")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_configuration_or_one_sentence(data: bytes) -> None:
    loaded_or_refused(data.decode("latin-1"))
