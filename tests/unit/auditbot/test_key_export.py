"""Room keys of the archive in the file that clients import: theirs, protected, and written down."""

import asyncio
import base64
import getpass
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import vodozemac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.recheck.key_file import ROUNDS, key_file
from common.config.secret import Secret
from common.errors import ConfigError
from tests.unit.auditbot.builders import NOON, ROOM, message, new_room
from tests.unit.auditbot.megolm import SENDER_KEY, SIGNING_KEY, Device
from tests.unit.auditbot.reader.test_recheck import session_of
from tests.unit.auditbot.test_session_keys import IDENTITIES, Expert, MakeExpert, database, make

__all__ = ["database", "make"]

PASSPHRASE = "correct horse staple"
Types = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
async def expert(make: MakeExpert) -> Expert:
    """Two sessions on two days, of one of which only the second message was read."""
    expert = make()
    expert.device.give()
    await expert.say(*new_room(), message("$clear"), expert.device.say("$1", "one"))
    await expert.store()
    expert.office.at(NOON + DAY_MS)
    await expert.say(expert.device.say("$2", "two"))
    await expert.store()
    return expert


@pytest.fixture
def types(expert: Expert, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Types:
    """Type ``recheck`` as an officer; return the exit status and what was told."""
    identity = tmp_path / "identity"
    identity.write_text(f"{IDENTITIES[0]}\n")
    protected = tmp_path / "passphrase"
    protected.write_text(f"{PASSPHRASE}\nnot this\n")
    protected.chmod(0o600)

    async def typed(*words: str, passphrase: str = str(protected)) -> tuple[int, str]:
        command = ["recheck", *words, f"--destination=file:{expert.root}",
                   f"--home={tmp_path / 'home'}", f"--identity={identity}"]  # fmt: skip
        if passphrase:
            command.append(f"--passphrase-file={passphrase}")
        status = await asyncio.to_thread(main, command)
        said, told = capsys.readouterr()
        assert said == ""
        return status, told

    return typed


def clear(path: Path) -> bytes:
    """Open a file as the specification says."""
    body = base64.b64decode("".join(path.read_text().split("\n")[1:-2]), validate=True)
    head, sealed, mac = body[:37], body[37:-32], body[-32:]
    rounds = int.from_bytes(head[33:])
    keys = hashlib.pbkdf2_hmac("sha512", PASSPHRASE.encode(), head[1:17], rounds, 64)
    assert hmac.digest(keys[32:], head + sealed, "sha256") == mac
    return Cipher(algorithms.AES(keys[:32]), modes.CTR(head[17:33])).decryptor().update(sealed)


def entries(tmp_path: Path) -> list[dict[str, object]]:
    lines = (tmp_path / "home" / "access.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def test_what_was_said_opens_with_the_exported_keys(
    expert: Expert, types: Types, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    status, told = await types("--export-keys", str(file))

    assert status == 0
    assert "1 room keys, for 2 of 2 messages" in told
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (exported,) = json.loads(clear(file))
    assert exported == {
        "algorithm": "m.megolm.v1.aes-sha2",
        "forwarding_curve25519_key_chain": [],
        "room_id": ROOM,
        "sender_claimed_keys": {"ed25519": SIGNING_KEY},
        "sender_key": SENDER_KEY,
        "session_id": expert.device.outbound.session_id,
        "session_key": expert.lines("dt=2025-11-24")[0]["session_key"],
    }
    key = vodozemac.ExportedSessionKey(exported["session_key"])
    session = vodozemac.InboundGroupSession.import_session(key)
    found, _ = await expert.rechecks()
    wires = [json.loads(one.record["wire_json"]) for one in found]
    said = [
        json.loads(session.decrypt(vodozemac.MegolmMessage.from_base64(text)).plaintext)
        for text in (wire["content"]["ciphertext"] for wire in wires)
    ]
    assert [one["content"]["body"] for one in said] == ["one", "two"]


async def test_only_the_keys_of_what_was_asked_for_are_written(
    expert: Expert, types: Types, tmp_path: Path
) -> None:
    later = expert.lines("dt=2025-11-25")[0]["session_key"]
    for number, words in enumerate(
        (["$2"], ["--from=2025-11-25"], ["--from=2025-11-25", "--room", ROOM])
    ):
        file = tmp_path / f"keys{number}"
        status, _ = await types(*words, "--export-keys", str(file))
        assert status == 0
        (one,) = json.loads(clear(file))
        assert one["session_key"] == later, "it opens nothing of the day before"
    for words, why in (
        (["--room", "!other"], "kept of 0 messages"),
        (["--to=2025-11-23"], "kept of 0 messages"),
        (["$clear"], "was not encrypted"),
    ):
        status, told = await types(*words, "--export-keys", str(tmp_path / "none"))
        assert (status, why in told) == (2, True), told
        assert told.startswith("steward: No room keys were exported: ")
        assert not (tmp_path / "none").exists()


async def test_a_key_opens_nothing_before_the_first_message_that_was_asked_for(
    expert: Expert, types: Types, tmp_path: Path
) -> None:
    await expert.say(expert.device.say("$3", "three"), expert.device.say("$4", "four"))
    await expert.store()

    status, told = await types("$4", "$3", "--export-keys", str(tmp_path / "keys"))

    assert (status, "1 room keys, for 2 of 2 messages" in told) == (0, True)
    (exported,) = json.loads(clear(tmp_path / "keys"))
    key = vodozemac.ExportedSessionKey(exported["session_key"])
    session = vodozemac.InboundGroupSession.import_session(key)
    assert session.first_known_index == 2, "“one” and, of the same day, “two” stay closed"
    (entry,) = entries(tmp_path)
    assert entry["event_ids"] == "$4 $3"


async def test_what_has_no_key_or_a_damaged_one_is_counted(
    expert: Expert, types: Types, tmp_path: Path
) -> None:
    for path in expert.root.rglob("sessions/dt=2025-11-25/*.age"):
        path.write_bytes(path.read_bytes()[:-1] + b"\0")

    status, told = await types("--export-keys", str(tmp_path / "keys"))

    assert status == 1
    assert "NOT ALL ROOM KEYS CAN BE USED" in told
    assert "1 room keys, for 1 of 2 messages" in told


async def test_it_is_written_down_before_and_a_passphrase_nowhere(
    expert: Expert, types: Types, tmp_path: Path
) -> None:
    await types("--room", ROOM, "--export-keys", str(tmp_path / "keys"))

    (entry,) = entries(tmp_path)
    assert entry["what"] == "room keys exported"
    assert (entry["room"], entry["found"]) == (ROOM, 1)
    assert entry["output"] == str(tmp_path / "keys")
    for path in (path for path in (tmp_path / "home").rglob("*") if path.is_file()):
        assert PASSPHRASE.encode() not in path.read_bytes(), path

    (tmp_path / "home" / "access.jsonl").unlink()
    (tmp_path / "home" / "access.jsonl").mkdir()
    status, told = await types("--export-keys", str(tmp_path / "more"))
    assert status == 2
    assert "The access log" in told
    assert not (tmp_path / "more").exists()


async def test_no_file_is_written_over(expert: Expert, types: Types, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.symlink_to(tmp_path / "elsewhere")

    status, told = await types("--export-keys", str(file))

    assert status == 2
    assert "is there already" in told
    assert not (tmp_path / "elsewhere").exists()


async def test_a_passphrase_comes_from_a_file_of_ones_own_or_a_pipe(
    expert: Expert, types: Types, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    common = tmp_path / "common"
    common.write_text("for all to see")
    common.chmod(0o640)
    for path, why in ((common, "Others can read"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ConfigError, match=why):
            await types("--export-keys", str(file), passphrase=str(path))
    with pytest.raises(ConfigError, match="is for --export-keys"):
        await types()
    empty = tmp_path / "empty"
    empty.touch(mode=0o600)
    long = tmp_path / "long"
    long.touch(mode=0o600)
    long.write_text("x" * 4097)
    with pytest.raises(ConfigError, match="longer than 4,096 bytes"):
        await types("--export-keys", str(file), passphrase=str(long))
    status, told = await types("--export-keys", str(file), passphrase=str(empty))
    assert (status, "No passphrase was given" in told) == (2, True)
    assert not file.exists()

    reading, writing = os.pipe()
    os.write(writing, f"{PASSPHRASE}\n".encode())
    os.close(writing)
    status, _ = await types("--export-keys", str(file), passphrase=f"/dev/fd/{reading}")
    os.close(reading)
    assert status == 0
    assert clear(file)


async def test_a_passphrase_is_asked_for_twice(
    expert: Expert, types: Types, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    with pytest.raises(ConfigError, match="no terminal"):
        await types("--export-keys", str(file), passphrase="")
    typed = [PASSPHRASE, "another", PASSPHRASE, PASSPHRASE]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda _: typed.pop(0))

    status, told = await types("--export-keys", str(file), passphrase="")
    assert (status, "not the same" in told, file.exists()) == (2, True, False)

    status, _ = await types("--export-keys", str(file), passphrase="")
    assert status == 0
    assert clear(file)


async def test_what_is_no_text_or_nothing_at_the_terminal_is_a_sentence(
    expert: Expert, types: Types, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undecodable(_: str) -> str:
        return b"pass\xff".decode()

    def nothing(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for asked, sentence in (
        (undecodable, "no text in UTF-8"),
        # As standard input gives it, where there is no /dev/tty.
        (lambda _: "pass\udcff", "no text in UTF-8"),
        (nothing, "No passphrase was given"),
    ):
        monkeypatch.setattr(getpass, "getpass", asked)
        status, told = await types("--export-keys", str(tmp_path / "keys"), passphrase="")
        assert (status, sentence in told) == (2, True)
        assert not (tmp_path / "keys").exists()


def test_the_file_is_as_the_specification_says(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    device.give()
    files = [key_file([session_of(device)], Secret(PASSPHRASE)) for _ in range(2)]
    monkeypatch.setattr(secrets, "token_bytes", lambda count: b"\xff" * count)
    files.append(key_file([session_of(device)], Secret(PASSPHRASE)))

    first, *lines, last, empty = files[0].decode().split("\n")
    assert (first, last, empty) == (
        "-----BEGIN MEGOLM SESSION DATA-----",
        "-----END MEGOLM SESSION DATA-----",
        "",
    )
    assert all(len(line) <= 96 for line in lines)
    bodies = [base64.b64decode(b"".join(file.split(b"\n")[1:-2])) for file in files]
    for body in bodies:
        assert body[0] == 1
        assert int.from_bytes(body[33:37]) == ROUNDS == 500_000
    assert bodies[0][1:17] != bodies[1][1:17]
    assert bodies[0][17:33] != bodies[1][17:33]
    assert bodies[2][17:33] == b"\xff" * 8 + b"\x7f" + b"\xff" * 7, "bit 63 is zero"
