"""What somebody would write instead: matrix-nio, one JSON line an event, flushed to disk."""

import json
import os
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from nio.crypto import InboundGroupSession, Olm
from nio.events import MegolmEvent
from nio.store import DefaultStore

from bench.workload import BOT, Workload

PER_FLUSH = 100


def row(workload: Workload) -> str:
    """Decrypt and append; return a row of the table.

    Everything that makes an archive is missing on purpose: no inbox, no check for doubles, no
    room state, no audience, no segments, no signature; its replay check is in memory.
    """
    with TemporaryDirectory() as directory:
        olm = Olm(BOT, "BOT", DefaultStore(BOT, "BOT", directory))
        for key in workload.keys:
            olm.inbound_group_store.add(
                InboundGroupSession.import_session(
                    workload.session_keys[key.ref.session_id],
                    key.signing_key,
                    key.sender_key,
                    key.ref.room_id,
                )
            )
        bodies = workload.bodies
        started, cpu = time.perf_counter(), time.process_time()
        _write(olm, bodies, Path(directory) / "log.jsonl")
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    count = len(bodies)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| matrix-nio script | {count / seconds:,.0f} | {cpu / count * 1e6:,.0f} | {peak:,.0f} |"
    )


def _write(olm: Olm, bodies: list[str], path: Path) -> None:
    with path.open("w") as file:
        for number, body in enumerate(bodies, start=1):
            event = olm.decrypt_megolm_event(MegolmEvent.from_dict(json.loads(body)))
            file.write(json.dumps(event.source) + "\n")
            if number % PER_FLUSH == 0:
                file.flush()
                os.fsync(file.fileno())
