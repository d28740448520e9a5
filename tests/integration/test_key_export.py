"""The file of room keys that officers get is imported by clients: Element's cryptography, and nio."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import vodozemac
from nio.crypto import Olm

from auditbot.reader.recheck.key_file import key_file
from auditbot.reader.recheck.opening import Session
from common.config.secret import Secret
from tests.support.npm import SOURCES, install_packages, node

ROOM = "!room:example.org"
_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Talk:
    """A session as the archive keeps it, and events that were encrypted with it."""

    session: Session
    events: tuple[dict[str, Any], ...]


@pytest.fixture
def talk() -> Talk:
    account = vodozemac.Account()
    outbound = vodozemac.GroupSession()
    inbound = vodozemac.InboundGroupSession(outbound.session_key)
    exported = inbound.export_at(0)
    assert exported is not None
    session = Session(
        algorithm="m.megolm.v1.aes-sha2",
        room_id=ROOM,
        session_id=inbound.session_id,
        sender="@alice:example.org",
        sender_key=account.curve25519_key.to_base64(),
        sender_claimed_keys={"ed25519": account.ed25519_key.to_base64()},
        source="direct",
        first_known_index=0,
        first_index=0,
        session_key=exported.to_base64(),
        stream="s",
        seq=0,
    )
    return Talk(session, tuple(said(outbound, number) for number in range(3)))


async def test_element_imports_the_keys_and_reads_what_was_said(talk: Talk) -> None:
    passphrase = "für – Sachverständige"
    await asyncio.to_thread(install_packages)
    process = await asyncio.create_subprocess_exec(
        *(node(), "import-keys.mjs"),
        cwd=SOURCES,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    given = {
        "file": key_file([talk.session], Secret(passphrase)).decode(),
        "passphrase": passphrase,
        "room": ROOM,
        "events": talk.events,
    }

    async with asyncio.timeout(_SECONDS):
        answer, told = await process.communicate(json.dumps(given).encode())

    assert process.returncode == 0, told.decode()
    found = json.loads(answer)
    assert found["imported"] == 1
    assert [one["content"]["body"] for one in found["said"]] == ["said 0", "said 1", "said 2"]


def test_nio_imports_the_keys_and_reads_what_was_said(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(key_file([talk.session], Secret("of letters that nio knows")))

    (session,) = Olm.import_keys_static(str(file), "of letters that nio knows")

    assert (session.id, session.room_id) == (talk.session.session_id, ROOM)
    texts = [session.decrypt(event["content"]["ciphertext"])[0] for event in talk.events]
    assert [json.loads(text)["content"]["body"] for text in texts] == [
        "said 0",
        "said 1",
        "said 2",
    ]


def said(outbound: vodozemac.GroupSession, number: int) -> dict[str, Any]:
    """Return an encrypted event."""
    content = {"msgtype": "m.text", "body": f"said {number}"}
    clear = {"type": "m.room.message", "room_id": ROOM, "content": content}
    return {
        "type": "m.room.encrypted",
        "event_id": f"$event{number}",
        "room_id": ROOM,
        "sender": "@alice:example.org",
        "origin_server_ts": 1_764_000_000_000 + number,
        "content": {
            "algorithm": "m.megolm.v1.aes-sha2",
            "session_id": outbound.session_id,
            "ciphertext": outbound.encrypt(json.dumps(clear).encode()).to_base64(),
        },
    }
