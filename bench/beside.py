"""mautrix's own decryption, in the environment of its own that it needs: it stands on libolm."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.decrypt import Speed
from bench.workload import SENDER, Workload

HERE = Path(__file__).parent / "mautrix"
PYTHON = HERE / ".venv" / "bin" / "python"


async def mautrix_path(workload: Workload) -> dict[str, Speed]:
    """Return its speed by kind of store, nothing where ``make bench`` could not install it."""
    if not PYTHON.exists():
        return {}
    with TemporaryDirectory() as directory:
        file = Path(directory) / "workload.json"
        file.write_text(json.dumps(_as_json(workload)))
        process = await asyncio.create_subprocess_exec(
            str(PYTHON), str(HERE / "measure.py"), str(file), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    if process.returncode != 0:
        return {}
    return {name: Speed(**figures) for name, figures in json.loads(out).items()}


def _as_json(workload: Workload) -> dict[str, object]:
    keys = workload.session_keys
    return {
        "sender": SENDER,
        "sender_key": workload.keys[0].sender_key,
        "signing_key": workload.keys[0].signing_key,
        "sessions": [
            {"room_id": key.ref.room_id, "key": keys[key.ref.session_id]} for key in workload.keys
        ],
        "events": [
            {
                "type": "m.room.encrypted",
                "event_id": event.event_id,
                "room_id": event.room_id,
                "sender": event.sender,
                "origin_server_ts": 1,
                "content": dict(event.content),
            }
            for event in workload.events
        ],
    }
