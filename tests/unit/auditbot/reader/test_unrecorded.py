"""A transcript, a report and a page never pass over time that was not recorded."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from auditbot.reader.cli import main
from auditbot.reader.conversation import load
from auditbot.reader.coverage import WithoutBot
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.render.templates import templates
from auditbot.reader.transcript.build import gather
from auditbot.reader.transcript.html import render
from tests.support.archive_maker import NOON, Maker
from tests.support.archive_story import ALICE, DESK, tell_story
from tests.unit.auditbot.reader.test_transcript import Archive

HOUR_MS = 3_600_000
NOTHING = "Nothing is known to be missing in this range."


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    """Half an hour of words, all of which could be read."""
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.record("control", actor="config", action="export_started", detail_json="{}")
    maker.message("first")
    maker.segment()
    maker.manifest()
    maker.message("last")
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    opened = Archive(maker, library)
    await opened.sync()
    yield opened
    library.close()


async def missing(archive: Archive, subject: str = "Lobby", **options: object) -> str:
    await archive.sync()
    transcript = await archive.transcript(subject, **options)
    sentences = list(transcript.facts["missing"])
    assert (NOTHING in render(transcript, {})) is (not sentences)
    return "\n".join(sentences)


async def test_what_lies_within_the_archive_and_was_recorded_is_not_missing(
    archive: Archive,
) -> None:
    assert await missing(archive) == ""
    assert await missing(archive, "alice") == ""
    assert await missing(archive, period=Period(archive.maker.started_ms + 2500, None)) == ""


@pytest.mark.parametrize("subject", ["Lobby", "alice"])
async def test_time_outside_of_the_archive_is_missing(archive: Archive, subject: str) -> None:
    told = await missing(archive, subject, period=Period(0, 10**12))
    assert "The archive begins on 2025-11-24 17:00:00: what was sent before" in told
    told = await missing(archive, subject, period=Period(None, 10**12))
    assert "The archive begins on" in told
    told = await missing(archive, subject, period=Period(NOON + HOUR_MS, None))
    assert "reaches 2025-11-24 17:00:05 only" in told
    assert "begins" not in told


async def test_time_in_which_the_export_was_off_is_missing(archive: Archive) -> None:
    stopped = archive.maker
    stopped.record("control", actor="config", action="export_stopped", detail_json="{}")
    stopped_ms = stopped.now_ms
    stopped.segment()
    # What is not stored yet may be stored long after the export was stopped.
    stopped.now_ms += HOUR_MS // 6
    stopped.manifest(closed={"reason": "destination cleared"})
    told = await missing(archive, period=Period(NOON + 2000, stopped.now_ms))
    assert "was stopped on 2025-11-24 17:00:06; what came later is not in here" in told

    again = Maker(
        stopped.root,
        stream="20251124T180000Zbbbbbb",
        started_ms=NOON + 2 * HOUR_MS,
        now_ms=NOON + 2 * HOUR_MS,
        previous_stream={
            "stream": stopped.stream,
            "destination": "file:/srv/archive",
            "stopped_ms": stopped_ms,
            "final_manifest": 2,
            "final_sha256": "0" * 64,
        },
    )
    again.message("again", event_id="$again")
    again.segment()
    again.manifest()
    told = await missing(archive)
    assert "recorded here from 2025-11-24 17:00:06 to 2025-11-24 19:00:00: the export" in told
    before = Period(None, NOON + 2000)
    assert await missing(archive, period=before) == ""
    assert await missing(archive, period=Period(again.started_ms, None)) == ""


async def test_time_that_was_recorded_elsewhere_is_missing_here(archive: Archive) -> None:
    first = Maker(
        archive.maker.root,
        stream="20251124T180000Zbbbbbb",
        started_ms=NOON + 2 * HOUR_MS,
        now_ms=NOON + 2 * HOUR_MS,
        previous_stream={
            "stream": "20251124T170000Zcccccc",
            "destination": "s3://elsewhere/x",
            "stopped_ms": NOON + HOUR_MS,
        },
    )
    first.manifest()
    told = await missing(archive)
    assert (
        "went elsewhere, or was off. The export before it was kept at “s3://elsewhere/x”" in told
    )


@pytest.mark.parametrize("is_down", [True, False])
async def test_time_in_which_nothing_was_signed_is_told(archive: Archive, is_down: bool) -> None:
    maker = archive.maker
    start = maker.now_ms
    maker.now_ms += 3 * HOUR_MS
    changed: dict[str, Any] = {"process_started_ms": maker.now_ms} if is_down else {}
    maker.manifest(**changed)

    told = await missing(archive)

    assert "signed for 3 hours, from 2025-11-24 17:00:05 to 2025-11-24 20:00:06" in told
    assert ("was not running until 2025-11-24 20:00:05" in told) is is_down
    assert await missing(archive, period=Period(None, start)) == ""


async def test_a_gap_of_no_room_may_belong_to_any_until_it_is_closed(archive: Archive) -> None:
    maker = archive.maker
    gap = maker.record("gap", actor="steward", action="set_aside", detail_json="{}")
    other = maker.record(
        "gap", actor="steward", action="history_refused", room_id="!other:example.org"
    )
    maker.segment()
    maker.manifest()
    assert "1 of no room that is known: Known gap: set aside" in await missing(archive)
    assert "history refused" not in await missing(archive)
    assert "1 in any room: Known gap: history refused" in await missing(archive, "alice")
    assert await missing(archive, period=Period(None, NOON + 4000)) == ""

    maker.record("gap_closed", of_seq=gap["seq"], action="set_aside", detail_json="{}")
    maker.record("gap_closed", of_seq=other["seq"], action="history_refused")
    maker.segment()
    maker.manifest()
    assert await missing(archive) == ""
    assert await missing(archive, "alice") == ""


async def test_a_room_s_record_may_begin_after_the_archive(archive: Archive) -> None:
    def came(room: str, **fields: object) -> None:
        state = {"msgtype": None, "body": None, "room_id": room, "room_name": room[1:]}
        archive.maker.message("", **{**state, **fields})

    bot = "@auditbot:example.org"
    joined = {"event_type": "m.room.member", "state_key": bot, "sender": bot}
    came("!entered", **joined, sender_kind="bot", event_id="$entered")
    came("!made", event_type="m.room.create", state_key="", event_id="$made")
    came("!made", **joined, sender_kind="bot", event_id="$made2")
    archive.maker.message("quiet", room_id="!quiet", room_name="quiet", event_id="$quiet")
    archive.maker.segment()
    archive.maker.manifest()

    told = await missing(archive, "!entered")
    assert "begins on 2025-11-24 17:00:06, when a bot came into it" in told
    assert await missing(archive, "!made") == ""
    assert await missing(archive, "!quiet") == "", "the bot may have been there all the time"
    whole = Period(NOON, None)
    assert "when a bot came" in await missing(archive, "!entered", period=whole)
    assert await missing(archive, "!made", period=whole) == ""
    told = await missing(archive, "!quiet", period=whole)
    assert "The first record of this room is of 2025-11-24 17:00:09" in told


async def test_the_room_before_and_the_room_after_are_told(archive: Archive) -> None:
    for event_type, content in (
        ("m.room.create", {"predecessor": {"room_id": "!old:example.org"}}),
        ("m.room.tombstone", {"replacement_room": "!new:example.org"}),
    ):
        archive.maker.message(
            "",
            event_type=event_type,
            state_key="",
            body=None,
            event_json=json.dumps({"content": content}),
        )
    archive.maker.segment()
    archive.maker.manifest()
    await archive.sync()
    told = await missing(archive)
    assert "This room took the place of !old:example.org on 2025-11-24 17:" in told
    assert "This room was closed in favour of !new:example.org on 2025-11-24 17:" in told
    assert "place of" not in await missing(archive, period=Period(None, NOON))


async def test_rooms_without_the_bot_are_told_as_of_the_range(archive: Archive) -> None:
    def without(*rooms: str, count: int, **more: object) -> dict[str, object]:
        listed = [{"room_id": room, "reason": "no way in", "since_ms": 1} for room in rooms]
        return {"covered": 1, "not_covered": listed, "not_covered_count": count, **more}

    maker = archive.maker
    before = Period(None, maker.now_ms + 500)
    maker.manifest(rooms=without("!lobby:example.org", count=1234))
    told = await missing(archive, "alice")
    assert "1,234 rooms were without the bot on 2025-11-24 17:00:06" in told
    assert await missing(archive, "alice", period=before) == ""
    told = await missing(archive)
    assert told == "This room was without the bot on 2025-11-24 17:00:06: no way in."


async def test_chosen_messages_are_of_the_time_from_first_to_last(archive: Archive) -> None:
    maker = archive.maker
    maker.now_ms += 3 * HOUR_MS
    maker.message("much later", event_id="$later")
    maker.segment()
    maker.manifest()
    await archive.sync()
    messages = load(archive.library, search(archive.library, Query()))
    said = [message for message in messages if message.text is not None]

    async def told(chosen: list[Any]) -> list[str]:
        request = (await archive.transcript("Lobby")).request
        transcript = await gather(
            archive.library,
            archive.place,
            replace(request, subject=None, period=ALWAYS),
            chosen,
            set(),
        )
        return list(transcript.facts["missing"])

    assert await told(said[:2]) == []
    assert "Nothing was signed for 3 hours" in "\n".join(await told(said))


def test_the_report_tells_them_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    maker = tell_story(tmp_path / "archive")
    maker.now_ms += 3 * HOUR_MS
    maker.manifest(
        rooms={
            "covered": 2,
            "not_covered": [{"room_id": "!board:example.org", "reason": "no way in"}],
            "not_covered_count": 1200,
            "compared_ms": NOON,
        }
    )
    words = [f"--destination=file:{maker.root}", f"--home={tmp_path / 'home'}"]

    assert main(["report", "--from=2025-11-01", *words]) == 0
    said = capsys.readouterr().out
    assert "Times without record  3\n" in said
    assert "    The archive reaches 2025-11-24 19:00:" in said, "up to now was asked for"
    assert "    The archive begins on 2025-11-24 16:00:00" in said
    assert "    Nothing was signed for 3 hours" in said
    assert "Rooms without the bot 1200\n    !board:example.org: no way in\n" in said
    assert "    … and 1,199 more\n" in said
    assert "all rooms of the homeserver were gone through last on 2025-11-24 16:00:00" in said
    assert main(["coverage", "--to=2025-11-01", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rooms_without_bot_count"] == 0, "the first manifest names none"
    assert main(["coverage", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out)["rooms_without_bot_count"] == 1200
    assert main(["transcript", DESK, "--from=2025-11-01", *words]) == 0
    assert "missing: The archive begins on" in capsys.readouterr().err
    assert main(["transcript", ALICE, "--output=alice.html", *words]) == 0
    assert "1,200 rooms were without the bot" in capsys.readouterr().err


def test_pages_claim_no_more_of_rooms_than_is_known() -> None:
    page = templates().from_string(
        "{% from 'page_parts.html' import rooms_without %}{{ rooms_without(known, zone) }}"
    )

    def shown(*manifests: tuple[int, int | None]) -> str:
        known = WithoutBot()
        for count, compared_ms in manifests:
            known = known.joined((), count, NOON, compared_ms)
        return page.render(known=known, zone=UTC)

    assert "None known." in shown()
    assert "No manifest says which rooms there are." in shown()
    assert "when all rooms of the homeserver were gone through last, it does not say" in shown(
        (0, None)
    )
    assert "were gone through last on 2025-11-24 16:00:00" in shown((0, NOON))
    assert "it does not say" in shown((0, NOON), (0, None)), "of one of two homeservers"
    assert "… and 7 more." in shown((5, None), (2, None))
