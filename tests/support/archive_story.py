"""An archive in which people edit, delete, react, attach and deceive, for tests and pictures."""

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.archive_maker import Maker, key_number

ALICE, BOB, CAROL, MALLORY = (
    f"@{name}:example.org" for name in ("alice", "bob", "carol", "mallory")
)
DESK = "!desk:example.org"
DIRECT = "!direct:example.org"


def chart() -> bytes:
    """Return a picture of a few bars."""
    width, height = 360, 200
    bars = (60, 95, 80, 130, 150, 118, 170)
    rows = []
    for y in range(height):
        row = bytearray(b"\x00")
        for x in range(width):
            bar, inside = divmod(x - 10, 50)
            is_bar = 0 <= bar < len(bars) and inside < 38 and height - 12 - y <= bars[bar]
            is_axis = y >= height - 12
            row += b"\x1d\x5f\xa8" if is_bar and not is_axis else b"\xf5\xf7\xf9"
        rows.append(bytes(row))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(rows), 9))
        + chunk(b"IEND", b"")
    )


PNG = chart()
HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)>\u202egnp.exe'


def audience(*users: str) -> str:
    return hashlib.sha256("\n".join(sorted(users)).encode()).hexdigest()


def tell_story(  # noqa: PLR0915  # a story
    folder: Path,
    started_ms: int | None = None,
    before: Callable[[Maker], None] | None = None,
    signer: Ed25519PrivateKey | None = None,
) -> Maker:
    """Write the archive; return its maker, with all of it signed.

    Args:
        folder: where
        started_ms: when the export began
        before: may add what was there before the story
        signer: whose archive it is
    """
    maker = Maker(folder, key=signer or key_number(1))
    if started_ms is not None:
        maker.started_ms = maker.now_ms = started_ms
    maker.publish_key()
    maker.record("control", actor="steward", action="export_started", detail_json="{}")
    maker.manifest()
    if before is not None:
        before(maker)
    desk: dict[str, Any] = {
        "room_id": DESK,
        "room_name": "Trading desk",
        "room_alias": "#desk:example.org",
        "encrypted": True,
        "enc_status": "decrypted",
        "enc_trust": "cross_signed",
        "enc_device_id": "ALICEPHONE",
        "join_rule": "invite",
        "history_visibility": "shared",
        "audience_id": audience(ALICE, BOB, CAROL),
        "audience_count": 3,
        "audience_basis": "stream_order",
    }
    maker.record(
        "audience",
        room_id=DESK,
        room_name="Trading desk",
        audience_id=audience(ALICE, BOB, CAROL),
        detail_json=json.dumps(
            {
                "members": [
                    {
                        "user_id": user,
                        "name": user[1:].partition(":")[0].title(),
                        "membership": "join",
                    }
                    for user in (ALICE, BOB, CAROL)
                ]
            }
        ),
    )
    state = {**desk, "enc_status": "clear", "msgtype": None, "body": None}
    for user in (ALICE, BOB, CAROL):
        maker.message(
            "",
            user,
            **{
                **state,
                "event_id": f"$join{user}",
                "event_type": "m.room.member",
                "state_key": user,
                "event_json": json.dumps({"content": {"membership": "join"}}),
            },
        )
    maker.message("Good morning. Have we heard from the client?", ALICE, event_id="$1", **desk)
    maker.message("Not yet — I will call them at ten.", BOB, event_id="$2", **desk)
    maker.message("The price is 100.", ALICE, event_id="$3", **desk)
    new = {"msgtype": "m.text", "body": "The price is 120."}
    maker.message(
        "* The price is 120.",
        ALICE,
        event_id="$3edit",
        edit_of="$3",
        edit_valid=True,
        rel_type="m.replace",
        rel_event_id="$3",
        **{
            **desk,
            "event_json": json.dumps(
                {
                    "type": "m.room.message",
                    "content": {"msgtype": "m.text", "body": "* …", "m.new_content": new},
                }
            ),
        },
    )
    maker.message("Delete this afterwards: buy before the news.", BOB, event_id="$4", **desk)
    maker.record(
        **{
            **desk,
            "event_id": "$4gone",
            "event_type": "m.room.redaction",
            "sender": BOB,
            "sender_name": "Bob",
            "redacts": "$4",
            "redaction_reason": "typo",
            "enc_status": "clear",
            "content_state": "as_sent",
        }
    )
    for number, (user, key) in enumerate(((ALICE, "👍"), (CAROL, "👍"), (CAROL, "🎉"))):
        maker.record(
            **{
                **desk,
                "event_id": f"$reaction{number}",
                "event_type": "m.reaction",
                "sender": user,
                "sender_name": user[1:].partition(":")[0].title(),
                "rel_type": "m.annotation",
                "rel_event_id": "$2",
                "reaction_key": key,
                "enc_status": "clear",
                "content_state": "as_sent",
            }
        )
    picture, digest = maker.file(PNG)
    sent = maker.message(
        "chart.png",
        CAROL,
        event_id="$5",
        **{
            **desk,
            "msgtype": "m.image",
            "media_name": "chart.png",
            "media_mime": "image/png",
            "media_size": len(PNG),
            "media_mxc": "mxc://example.org/chart",
            "media_status": "pending",
        },
    )
    maker.record(
        "media",
        of_seq=sent["seq"],
        room_id=DESK,
        event_id="$5",
        sender=CAROL,
        media_name="chart.png",
        media_mime="image/png",
        media_mime_sniffed="image/png",
        media_status="stored",
        media_key=picture,
        media_sha256=digest,
        media_size=len(PNG),
    )
    maker.segment()
    maker.message(
        "Looks good, thread it here.",
        BOB,
        event_id="$6",
        thread_root="$5",
        rel_type="m.thread",
        rel_event_id="$5",
        **desk,
    )
    maker.message("Where is that from?", ALICE, event_id="$7", reply_to="$5", **desk)
    unread = maker.message(
        "",
        CAROL,
        event_id="$8",
        **{
            **desk,
            "event_type": "m.room.encrypted",
            "enc_status": "undecryptable",
            "enc_error": "no_session",
            "enc_device_id": "CAROLPC",
            "enc_trust": None,
            "body": None,
            "msgtype": None,
            "event_json": None,
        },
    )
    maker.message(
        "",
        CAROL,
        event_id="$9",
        **{
            **desk,
            "event_type": "m.room.encrypted",
            "enc_status": "undecryptable",
            "enc_error": "withheld_unverified",
            "enc_device_id": "CAROLPC",
            "enc_trust": None,
            "body": None,
            "msgtype": None,
            "event_json": None,
        },
    )
    maker.record(
        "decryption",
        **{
            **desk,
            "of_seq": unread["seq"],
            "event_id": "$8",
            "event_type": "m.room.message",
            "sender": CAROL,
            "sender_name": "Carol",
            "msgtype": "m.text",
            "body": "From the research team, sent from my laptop.",
            "enc_status": "late",
            "enc_device_id": "CAROLPC",
            "enc_trust": "unverified_device",
            "content_state": "as_sent",
            "event_json": "{}",
        },
    )
    maker.message(HOSTILE, MALLORY, event_id="$10", **{**desk, "sender_name": "Alice\u202e"})
    maker.message('=HYPERLINK("http://evil","click")', MALLORY, event_id="$11", **desk)
    maker.message(
        "All fine here.",
        MALLORY,
        event_id="$13",
        **{
            **desk,
            "event_json": json.dumps(
                {
                    "type": "m.room.message",
                    "content": {
                        "msgtype": "m.text",
                        "body": "All fine here.",
                        "format": "org.matrix.custom.html",
                        "formatted_body": "<b>Sell</b> everything <script>x</script>now",
                    },
                }
            ),
        },
    )
    maker.message(
        "",
        CAROL,
        event_id="$14",
        **{
            **desk,
            "event_type": "m.poll.start",
            "msgtype": None,
            "body": None,
            "event_json": json.dumps(
                {
                    "type": "m.poll.start",
                    "content": {
                        "m.poll": {
                            "question": {"m.text": [{"body": "Lunch at noon?"}]},
                            "answers": [
                                {"m.id": "1", "m.text": [{"body": "Gladly yes"}]},
                                {"m.id": "2", "m.text": [{"body": "Rather not"}]},
                            ],
                        }
                    },
                }
            ),
        },
    )
    maker.message("我们明天见面吧", CAROL, event_id="$12", **desk)
    direct = {
        **desk,
        "room_id": DIRECT,
        "room_name": None,
        "room_alias": None,
        "is_direct": True,
        "audience_id": audience(ALICE, BOB),
        "audience_count": 2,
    }
    maker.message("Between us: the price was too low.", ALICE, event_id="$20", **direct)
    maker.message("Understood.", BOB, event_id="$21", **direct)
    maker.record("gap", action="history_refused", room_id=DIRECT, detail_json="{}")
    maker.segment()
    maker.manifest(
        rooms={
            "covered": 2,
            "not_covered": [
                {
                    "room_id": "!board:example.org",
                    "reason": "no local administrator",
                    "since_ms": maker.started_ms,
                }
            ],
            "not_covered_count": 1,
        },
        undecryptable_open=1,
        gaps_open=1,
    )
    return maker
