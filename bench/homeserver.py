"""The homeserver's side: transactions of 100 events, pushed one after the other as Synapse does.

``python -m bench.homeserver FILE PORT RATE`` pushes the bodies in a file to a Steward on this machine
and prints how many milliseconds each request took, as JSON.
"""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.workload import SENDER, Workload
from common.clock import SystemClock

PER_TRANSACTION = 100
"""As many events as Synapse puts into one."""
HS_TOKEN = "b" * 32


def transactions(workload: Workload, *, encrypted: bool, begin: bool) -> list[bytes]:
    """Return the bodies that the homeserver would push.

    Args:
        workload: the messages
        encrypted: whether they are sent as they are, or in clear text
        begin: whether the rooms begin in the stream
    """
    events: list[dict[str, Any]] = []
    for room in sorted({event.room_id for event in workload.events}) if begin else ():
        events += [
            _state(room, "m.room.create", "", {"room_version": "12"}),
            _state(room, "m.room.member", SENDER, {"membership": "join", "displayname": "Alice"}),
            _state(room, "m.room.name", "", {"name": f"Room {room}"}),
        ]
    now_ms = SystemClock().now_ms()
    for number, event in enumerate(workload.events):
        clear = {"msgtype": "m.text", "body": f"{number} " + "x" * 1000}
        events.append(
            {
                "type": "m.room.encrypted" if encrypted else "m.room.message",
                "event_id": event.event_id,
                "room_id": event.room_id,
                "sender": SENDER,
                "origin_server_ts": now_ms,
                "content": dict(event.content) if encrypted else clear,
                "unsigned": {"age": 20},
            }
        )
    return [
        json.dumps({"events": events[at : at + PER_TRANSACTION]}).encode()
        for at in range(0, len(events), PER_TRANSACTION)
    ]


def _state(room: str, kind: str, key: str, content: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "state_key": key,
        "event_id": f"${room[1:]}-{kind}-{'e' * 20}",
        "room_id": room,
        "sender": SENDER,
        "origin_server_ts": 1_700_000_000_000,
        "content": content,
    }


class Pushed(msgspec.Struct):
    """When the first push began, and how many milliseconds each took until its answer."""

    begun_ms: int
    waits_ms: list[float]


def push(bodies: list[bytes], port: int, rate: int) -> Pushed:
    """Push all of them, one after the other."""
    waits: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    headers = {"Authorization": f"Bearer {HS_TOKEN}", "Content-Type": "application/json"}
    begun, begun_ms = time.perf_counter(), SystemClock().now_ms()
    for number, body in enumerate(bodies):
        if rate:
            due = begun + number * PER_TRANSACTION / rate
            time.sleep(max(0.0, due - time.perf_counter()))
        started = time.perf_counter()
        connection.request("PUT", f"/_matrix/app/v1/transactions/{number}", body, headers)
        answer = connection.getresponse()
        answer.read()
        waits.append((time.perf_counter() - started) * 1000)
        if answer.status != http.client.OK:
            raise AssertionError(answer.status)
    return Pushed(begun_ms, waits)


if __name__ == "__main__":
    pushed = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=list[bytes])
    done = push(pushed, int(sys.argv[2]), int(sys.argv[3]))
    print(msgspec.json.encode(done).decode())
