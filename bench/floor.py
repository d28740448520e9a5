"""The least that anybody has to do in one Python process: JSON → vodozemac → JSON → zstd → fsync.

How fast that is says how fast the machine is; the speed of everything else is a part of it.
"""

import json
import os
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import vodozemac
import zstandard

from bench.workload import Workload

PER_FLUSH = 100


def row(workload: Workload) -> str:
    """Decrypt and append, a frame and an fsync for every 100 events; return a row of the table."""
    sessions = {key.ref.session_id: key.session for key in workload.keys}
    bodies = workload.bodies
    with TemporaryDirectory() as directory:
        started, cpu = time.perf_counter(), time.process_time()
        _write(sessions, bodies, Path(directory) / "log.jsonl.zst")
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    count = len(bodies)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| bare floor | {count / seconds:,.0f} | {cpu / count * 1e6:,.0f} | {peak:,.0f} |"


def _write(
    sessions: Mapping[str, vodozemac.InboundGroupSession], bodies: Sequence[str], path: Path
) -> None:
    compressor = zstandard.ZstdCompressor(level=3)
    with path.open("wb") as file:
        for at in range(0, len(bodies), PER_FLUSH):
            lines = [_line(sessions, body) for body in bodies[at : at + PER_FLUSH]]
            file.write(compressor.compress(b"".join(lines)))
            file.flush()
            os.fsync(file.fileno())


def _line(sessions: Mapping[str, vodozemac.InboundGroupSession], body: str) -> bytes:
    event = json.loads(body)
    content = event["content"]
    message = vodozemac.MegolmMessage.from_base64(content["ciphertext"])
    event["content"] = json.loads(sessions[content["session_id"]].decrypt(message).plaintext)
    return json.dumps(event).encode() + b"\n"
