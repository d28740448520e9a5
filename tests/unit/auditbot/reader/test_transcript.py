"""A transcript stands by itself, shows everything, and nothing in it can act or deceive."""

import csv
import email
import email.policy
import io
import json
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest

from auditbot.reader.conversation import load
from auditbot.reader.index.library import Library
from auditbot.reader.index.query import Query, search
from auditbot.reader.index.sql import ask
from auditbot.reader.index.sync import sync
from auditbot.reader.memory import Remembered
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.render.rows import table
from auditbot.reader.render.sheets import guarded, write_csv, write_jsonl, write_parquet
from auditbot.reader.render.words import spelled
from auditbot.reader.transcript.build import Request, Transcript, build
from auditbot.reader.transcript.eml import address, write_eml
from auditbot.reader.transcript.html import write_html
from auditbot.reader.transcript.pdf import _data, write_pdf
from auditbot.reader.transcript.subject import find_subject
from auditbot.storage.reading import DirectoryPlace
from common.errors import UserError
from tests.support.archive_maker import NOON, Maker
from tests.support.archive_story import ALICE, DESK, DIRECT, HOSTILE, MALLORY, PNG, tell_story


class Archive:
    def __init__(self, maker: Maker, library: Library) -> None:
        self.maker, self.library = maker, library
        self.place = DirectoryPlace(maker.root)

    async def sync(self) -> None:
        done = await sync(self.place, self.library, lambda _: Remembered())
        assert not done.faults

    async def transcript(self, subject: str = "Trading desk", **options: object) -> Transcript:
        request = Request(
            archive="file:archive",
            subject=find_subject(self.library, subject),
            period=ALWAYS,
            zone=ZoneInfo("Europe/Berlin"),
            zone_name="Europe/Berlin",
            made_ms=NOON,
            made_by="olivia",
            verdict="RIGHT: nothing was changed, added or removed.",
            standing="right",
            fingerprints=("a" * 64,),
        )
        wanted = replace(request, **options)  # type: ignore[arg-type]  # any of the fields
        return await build(self.library, self.place, wanted)


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    library = Library(tmp_path / "cache")
    opened = Archive(tell_story(tmp_path / "archive"), library)
    await opened.sync()
    yield opened
    library.close()


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_shows_everything_and_nothing_in_it_acts(
    archive: Archive, tmp_path: Path
) -> None:
    path = tmp_path / "t.html"
    write_html(await archive.transcript(), path)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    shown = " ".join(page.text.split())

    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    loaded = [value or "" for name, value in page.attributes if name in {"src", "href"}]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loaded)
    assert "default-src 'none'" in text
    assert "\u202e" not in text
    assert "⟨U+202E⟩gnp.exe" in shown
    assert '<script>document.title="owned"</script>' in shown
    for words in (
        "The price is 120.",
        "as first sent, 2025-11-24 17:00:08 CET: The price is 100.",
        "deletedby @bob:example.org on 2025-11-24 17:00:11 CET, reason given: “typo”",
        "Delete this afterwards: buy before the news.",
        '👍 @alice:example.org "Alice", @carol:example.org "Carol"',
        'in reply to @carol:example.org "Carol" “chart.png”',
        'in the thread of @carol:example.org "Carol" “chart.png”',
        "the sender's client gives keys to verified devices only",
        "readable only later: its key was not received",
        "readable by 3 people, and whoever joined later",
        "16:00:08 UTC",
        '1. @alice:example.org "Alice"; @bob:example.org "Bob"',
        "1 could not be read",
        "RIGHT: nothing was changed, added or removed.",
        archive.maker.segments[0],
        archive.maker.manifests[1],
        "Europe/Berlin",
        "shown otherwisemost clients show this instead: Sell everything now",
        "Lunch at noon? · Gladly yes · Rather not",
    ):
        assert words in shown, words
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_nobody_reacts_answers_or_leads_a_thread_as_somebody_else(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    mallory = {"sender_name": 'Alice", @alice:example.org "Alice'}
    maker.message("Yes or no?", "@bob:example.org", event_id="$ask")
    maker.message("I say so.", MALLORY, event_id="$said", **mallory)
    maker.message("Then it is so.", "@bob:example.org", reply_to="$said", thread_root="$said")
    for number, key in enumerate(("👍", '👍 @alice:example.org "Alice",')):
        maker.message(
            "",
            MALLORY,
            event_id=f"$r{number}",
            event_type="m.reaction",
            rel_type="m.annotation",
            rel_event_id="$ask",
            reaction_key=key,
            **{**mallory, "msgtype": None, "body": None},
        )
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()
    transcript = await archive.transcript("Lobby")

    write_html(transcript, tmp_path / "t.html")
    write_eml(transcript, tmp_path / "mail")

    shown = " ".join(Page((tmp_path / "t.html").read_text(encoding="utf-8")).text.split())
    (path,) = (tmp_path / "mail").iterdir()
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    body = mail.get_body(("plain",))
    assert body is not None
    who = '@mallory:example.org "Alice⟨U+0022⟩, @alice:example.org ⟨U+0022⟩Alice"'
    for text in (shown, body.get_content()):
        assert f"👍 {who}" in text
        assert f'"👍 @alice:example.org ⟨U+0022⟩Alice⟨U+0022⟩," {who}' in text
    assert f"in reply to {who} “I say so.”" in shown
    assert f"in the thread of {who} “I say so.”" in shown
    library.close()


async def test_a_large_or_strange_attachment_lies_beside_the_page_under_a_safe_name(
    tmp_path: Path,
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    key, digest = maker.file(b"<html><script>alert(1)</script>")
    sent = maker.message("x", media_name="../../evil.html", media_status="pending")
    maker.record(
        "media", of_seq=sent["seq"], media_status="stored", media_key=key, media_sha256=digest
    )
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()

    write_html(await archive.transcript("Lobby"), tmp_path / "t.html")

    (copy,) = (tmp_path / "t-files").iterdir()
    assert copy.name == f"{digest}.bin"
    library.close()


async def test_a_replaced_attachment_is_not_shown_and_told(
    archive: Archive, tmp_path: Path
) -> None:
    file = next((archive.maker.root / archive.maker.base / "media").rglob("*/*"))
    file.write_bytes(b"x" * file.stat().st_size)

    transcript = await archive.transcript()

    assert not transcript.attachments
    assert any("not those that were archived" in text for text in transcript.facts["missing"])
    assert transcript.facts["standing"] == transcript.request.standing == "wrong"


async def test_a_person_s_transcript_has_all_rooms_and_context_if_wanted(
    archive: Archive,
) -> None:
    alone = await archive.transcript(ALICE)
    around = await archive.transcript(ALICE, context_hours=1)

    # Bob's message is there because she reacted to it.
    assert [view["text"] for view in alone.views if view["sender"] != ALICE] == [
        "Not yet — I will call them at ten."
    ]
    assert {view["room_id"] for view in alone.views} == {DESK, DIRECT}
    assert len(around.views) > len(alone.views)
    assert [view["root"] for view in around.views if not view["context"]] == [
        view["root"] for view in alone.views
    ]


async def test_what_is_missing_is_told(archive: Archive) -> None:
    direct = await archive.transcript(DIRECT)
    assert (
        "1 known gap: something is missing and a signed record says so." in direct.facts["missing"]
    )
    assert "Known gap: history refused, noticed at 2025-11-24 " in "".join(direct.facts["missing"])
    later = await archive.transcript(period=Period(None, NOON + 10**10))
    assert any("reaches 2025-11-24" in text for text in later.facts["missing"])
    archive.maker.remove(archive.maker.segments[0])
    archive.maker.manifest()
    await archive.sync()
    removed = await archive.transcript()
    assert any("deleted or erased on purpose" in text for text in removed.facts["missing"])


@pytest.mark.parametrize("says_room", [True, False], ids=["", "as older archives say it"])
async def test_a_gap_that_was_closed_is_no_longer_missing(tmp_path: Path, says_room: bool) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message("said")
    gaps = [
        maker.record(
            "gap",
            action="event_missing",
            room_id="!lobby:example.org",
            detail_json=json.dumps({"event_id": f"$lost{number}"}),
        )
        for number in range(3)
    ]
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()
    before = await archive.transcript("Lobby")
    maker.record(
        "gap_closed",
        action="event_missing",
        of_seq=gaps[0]["seq"],
        detail_json=json.dumps({"event_id": "$lost0"}),
        **({"room_id": "!lobby:example.org"} if says_room else {}),
    )
    maker.segment()
    maker.manifest()
    await archive.sync()

    after = await archive.transcript("Lobby")

    assert before.facts["missing"][0].startswith("3 known gaps:")
    assert after.facts["missing"] == [
        "2 known gaps: something is missing and a signed record says so.",
        "Known gap: event missing, $lost1, noticed at 2025-11-24 17:00:03.",
        "Known gap: event missing, $lost2, noticed at 2025-11-24 17:00:04.",
    ]
    closed = "event missing, $lost0, was missing from 2025-11-24 17:00:02 and was fetched at 2025"
    (told,) = [view["act"] for view in after.views if "$lost0" in str(view["act"])]
    assert closed in told
    assert closed in "\n".join(table(after.messages, after.request.zone))
    (message,) = [one for one in after.messages if one.closed is not None]
    assert [stored.record["kind"] for stored in message.records] == ["gap", "gap_closed"]
    library.close()


async def test_a_name_that_fits_several_is_asked_back(archive: Archive) -> None:
    with pytest.raises(UserError, match="more than one"):
        find_subject(archive.library, "example.org")
    with pytest.raises(UserError, match="No room and no person"):
        find_subject(archive.library, "nobody")
    assert find_subject(archive.library, "bob").kind == "person"
    assert find_subject(archive.library, "#desk:example.org").name == DESK


async def test_the_pdf_is_set_with_all_characters(archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "t.pdf"

    write_pdf(await archive.transcript(), path)

    body = path.read_bytes()
    assert body.startswith(b"%PDF-")
    assert b"/Image" in body or b"/ObjStm" in body
    assert b"/JavaScript" not in body


async def test_the_pdf_shows_how_the_archive_was_found(archive: Archive, tmp_path: Path) -> None:
    made = []
    for standing in ("right", "partly", "wrong", "unknown", "right"):
        write_pdf(await archive.transcript(standing=standing), tmp_path / "t.pdf")
        made.append((tmp_path / "t.pdf").read_bytes())

    assert made[0] == made[-1], "nothing else may make a difference"
    assert len(set(made)) == 4


async def test_the_pdf_is_one_for_keeping(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message("Plain words, and some more: äöü ß € Ω Ж.")
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()

    write_pdf(await archive.transcript("Lobby"), tmp_path / "t.pdf")

    assert b"<pdfaid:part>2</pdfaid:part>" in (tmp_path / "t.pdf").read_bytes()
    library.close()


async def test_a_damaged_picture_does_not_stop_the_pdf(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    broken = (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x10\x00\x00\x00\x10" + b"\xff" * 40
    )
    sound, of_sound = maker.file(PNG)
    first = maker.message("b.png", media_name="b.png", media_status="pending")
    maker.record(
        "media", of_seq=first["seq"], media_status="stored", media_key=sound, media_sha256=of_sound
    )
    key, digest = maker.file(broken)
    sent = maker.message("#panic() *x* `y`", media_name="a.png", media_status="pending")
    maker.record(
        "media", of_seq=sent["seq"], media_status="stored", media_key=key, media_sha256=digest
    )
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()

    remarks = write_pdf(await archive.transcript("Lobby"), tmp_path / "t.pdf")

    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF-")
    (sentence,) = remarks
    assert sentence.startswith("1 picture is named in the PDF and not shown: damaged"), "not both"
    library.close()


async def test_no_word_runs_off_the_page(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    digest, marked = "0123456789abcdef" * 4, "n\u0303" * 60
    maker.message(f"{'W' * 500}sell {digest} {marked}", f"@{'x' * 250}:example.org")
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()
    transcript = await archive.transcript("Lobby")

    (view,), (made,) = transcript.views, _data(transcript, {})["days"][0]["messages"]

    for name in ("text", "sender"):
        assert made[name].replace("\u200b", "") == view[name]
        pieces = made[name].replace(digest, "").replace("\u200b", " ").split()
        assert max(map(len, pieces)) <= 41
    assert digest in made["text"]
    assert "\u200b\u0303" not in made["text"]
    library.close()


async def test_mail_has_one_message_for_each_room_and_day(
    archive: Archive, tmp_path: Path
) -> None:
    written = write_eml(await archive.transcript(ALICE, context_hours=1), tmp_path / "mail")

    assert written.files == 2
    mails = [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        for path in sorted((tmp_path / "mail").iterdir())
    ]
    (desk,) = [mail for mail in mails if mail["X-Steward-Room-ID"] == DESK]
    assert "carol@example.org" in desk["To"]
    assert desk["Subject"] == "Matrix: Trading desk, 2025-11-24"
    assert desk["X-Steward-Deleted"] == "1"
    body = desk.get_body(("plain",))
    assert body is not None
    assert "as first sent: The price is 100." in body.get_content()
    (attached,) = desk.iter_attachments()
    assert attached.get_content_type() == "image/png"
    for mail in mails:
        for name in ("From", "To", "Subject"):
            assert "\n" not in str(mail[name])


async def test_a_name_cannot_add_a_header(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message(
        "x", sender_name="A\r\nBcc: evil@example.org", room_name="B\r\nX-Evil: 1", room_id="!r"
    )
    maker.message("y", "@we ird\r\n@:[::1]:8448", room_id="!r")
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()

    write_eml(await archive.transcript("!r"), tmp_path / "mail")

    (path,) = (tmp_path / "mail").iterdir()
    mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert mail["Bcc"] is None
    assert mail["X-Evil"] is None
    assert "steward.invalid" in mail["To"]
    library.close()


def test_people_of_two_ports_of_a_host_have_two_addresses() -> None:
    users = ("@bob:example.org", "@bob:example.org:8448", "@bob:example.org:8449")

    addresses = [address(user, "Bob") for user in users]

    assert addresses[0].addr_spec == "bob@example.org"
    assert len({one.addr_spec for one in addresses}) == len(users)
    assert [one.display_name for one in addresses] == [f"Bob ({user})" for user in users]


async def test_sheets_hold_every_message_and_no_formula(archive: Archive, tmp_path: Path) -> None:
    messages = load(archive.library, search(archive.library, Query(rooms=(DESK,))))
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        write_csv(messages, file, UTC)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == len(messages) == 17
    texts = {row["event_id"]: row["text"] for row in rows}
    assert texts["$11"].startswith("'=HYPERLINK")
    assert texts["$10"] == spelled(HOSTILE)
    for row in rows:
        assert not any(re.match(r"\s*[=+\-@|%]", cell) for cell in row.values())

    with (tmp_path / "t.jsonl").open("w", encoding="utf-8") as file:
        write_jsonl(messages, file, UTC)
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    (edited,) = [line for line in lines if line["event_id"] == "$3"]
    assert edited["versions"][0]["text"] == "The price is 120."
    assert [record["event_id"] for record in edited["records"]] == ["$3", "$3edit"]

    write_parquet(messages, tmp_path / "t.parquet", UTC)
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT count(*), count(deleted_by), sum(edits) FROM read_parquet(?)",
            [str(tmp_path / "t.parquet")],
        ).fetchone()
    assert found == (17, 1, 1)


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\n=1", "＝1", "|calc", "%0A=1"]
)
def test_what_a_spreadsheet_might_run_is_guarded(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


def test_what_is_harmless_stays_as_it_is() -> None:
    for cell in ("hello", "", "  ", 5, None, "1-2", "a=b"):
        assert guarded(cell) == cell


async def test_a_terminal_obeys_nothing(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message("\x1b[2J\x1b]0;owned\x07\nsecond line", sender_name="\x9b31m")
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()

    lines = list(table(load(library, search(library, Query()))))

    assert all(line.isprintable() for line in lines)
    assert "⟨U+001B⟩[2J" in lines[0]
    library.close()


async def test_bots_are_not_counted_among_the_people_who_could_read(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    members = [
        ("alice", "join", "human"),
        ("bob", "invite", "human"),
        ("adminbot", "join", "bot"),
        ("auditbot", "join", "bot"),
    ]
    maker.record(
        "audience",
        room_id="!lobby:example.org",
        audience_id="a" * 64,
        detail_json=json.dumps(
            {
                "members": [
                    {"user_id": f"@{name}:example.org", "membership": state, "kind": kind}
                    for name, state, kind in members
                ]
            }
        ),
    )
    maker.message("Between us.", ALICE, audience_id="a" * 64, audience_count=3)
    maker.message("Nobody knows.", ALICE, audience_id="b" * 64, audience_count=3)
    maker.segment()
    maker.manifest()
    archive = Archive(maker, Library(tmp_path / "cache"))
    await archive.sync()

    write_html(await archive.transcript("Lobby"), tmp_path / "t.html")

    shown = " ".join(Page((tmp_path / "t.html").read_text(encoding="utf-8")).text.split())
    assert "readable by 1 person and 2 bots" in shown
    assert "readable by 3 members" in shown
    archive.library.close()


async def test_officers_see_the_retention_class_where_it_is_not_the_default_one(
    tmp_path: Path,
) -> None:
    maker = Maker(tmp_path / "archive", keeps={"board": 3650})
    maker.publish_key()
    maker.message("Kept long.", ALICE, retention_class="board")
    maker.message("Kept as all is.", ALICE, retention_class="default")
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    archive = Archive(maker, library)
    await archive.sync()
    messages = list(load(library, search(library, Query())))

    told = "\n".join(table(messages))
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        write_csv(messages, file)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["text"]: row["retention_class"] for row in csv.DictReader(file)}
    write_html(await archive.transcript("Lobby"), tmp_path / "t.html")
    write_pdf(await archive.transcript("Lobby"), tmp_path / "t.pdf")
    answer = ask(library, "SELECT body, retention_class FROM records ORDER BY seq")
    asked = list(answer.rows)
    library.close()

    assert told.count("retention class: board") == 1
    assert rows == {"Kept long.": "board", "Kept as all is.": "default"}
    shown = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert shown.count("retention class board") == 1
    assert "retention class default" not in shown
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")
    assert asked == [("Kept long.", "board"), ("Kept as all is.", "default")]


async def test_what_was_recovered_is_deleted_and_marked_although_nothing_tells_who_deleted_it(
    tmp_path: Path,
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    recovered = {"content_state": "recovered_unredacted"}
    maker.message("Said and taken back.", ALICE, event_id="$gone", **recovered)
    maker.message("Kept.", ALICE, event_id="$kept")
    maker.message("Never so.", ALICE, event_id="$edit", edit_of="$kept", **recovered)
    maker.message(
        "",
        ALICE,
        event_id="$like",
        event_type="m.reaction",
        rel_event_id="$kept",
        rel_type="m.annotation",
        reaction_key="+1",
        body=None,
        msgtype=None,
        **recovered,
    )
    maker.segment()
    maker.manifest()
    archive = Archive(maker, Library(tmp_path / "cache"))
    await archive.sync()
    transcript = await archive.transcript("Lobby")

    write_html(transcript, tmp_path / "t.html")
    rows = io.StringIO()
    write_csv(transcript.messages, rows, UTC)

    shown = " ".join(Page((tmp_path / "t.html").read_text(encoding="utf-8")).text.split())
    assert "deletedbefore it was archived" in shown
    assert "Said and taken back." in shown
    assert "recovered from the homeserver" in shown
    assert "this version was deleted: Never so." in shown
    assert "(taken back)" in shown
    gone, kept = csv.DictReader(io.StringIO(rows.getvalue()))
    assert (gone["text"], kept["latest_text"]) == ("Said and taken back.", "Kept.")
    assert "recovered from the homeserver" in gone["notes"]
    assert kept["notes"] == ""
    archive.library.close()
