"""What a scanner found something in is told everywhere and shown, linked or handed over nowhere."""

import email
import email.policy
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from auditbot.reader.cli import main
from auditbot.reader.index.library import Library
from auditbot.reader.media import InfectedAttachmentError, fetch_file
from auditbot.reader.transcript.eml import write_eml
from auditbot.reader.transcript.html import write_html
from auditbot.reader.transcript.pdf import write_pdf
from auditbot.reader.transcript.rsmf import write_rsmf
from tests.support.archive_maker import Maker
from tests.unit.auditbot.reader.test_transcript import Archive

PICTURE = b"\x89PNG\r\n\x1a\n" + b"evil" * 30
NAME = "Evil\u202egnp <b>1</b>"


def attach(maker: Maker, event_id: str, body: bytes, status: str, scan: object) -> str:
    key, digest = maker.file(body)
    sent = maker.message("x", event_id=event_id, media_name="a.png", media_status="pending")
    maker.record(
        "media",
        of_seq=sent["seq"],
        media_status=status,
        media_key=key,
        media_sha256=digest,
        detail_json=json.dumps({"scan": scan}),
    )
    return key


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[Archive]:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    limit = {"result": "not_scanned", "reason": "too <i>large</i>"}
    attach(maker, "$unknown", PICTURE + b"?", "stored", limit)
    # By older signatures nothing was found in it.
    attach(maker, "$before", PICTURE, "stored", {"result": "clean"})
    attach(maker, "$bad", PICTURE, "infected", {"result": "infected", "signature": NAME})
    maker.segment()
    maker.manifest()
    library = Library(tmp_path / "cache")
    opened = Archive(maker, library)
    await opened.sync()
    yield opened
    library.close()


async def test_no_document_holds_it_and_each_tells_of_it(archive: Archive, tmp_path: Path) -> None:
    transcript = await archive.transcript("Lobby")
    assert len(transcript.attachments) == 1
    told = " ".join(transcript.facts["missing"])
    assert 'NOT GIVEN OUT: a malware scanner found something in it: "Evil⟨U+202E⟩gnp' in told
    assert "a.png” cannot be shown: A malware scanner found something in it" in told

    write_html(transcript, tmp_path / "t.html")
    write_eml(transcript, tmp_path / "mails")
    write_rsmf(transcript, tmp_path / "rsmf")
    write_pdf(transcript, tmp_path / "t.pdf")
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert "NOT GIVEN OUT" in page
    assert "<b>1</b>" not in page
    assert "NOT SCANNED for malware: too &lt;i&gt;large" in page
    assert page.count("data:image/png;base64,") == 1
    for folder, ending in (("mails", "*.eml"), ("rsmf", "*.rsmf")):
        (path,) = (tmp_path / folder).rglob(ending)
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        parts = [part.get_content() for part in mail.walk() if not part.is_multipart()]
        assert "NOT GIVEN OUT" in str(parts[0]) + path.read_text("utf-8")
        held = [part for part in parts if isinstance(part, bytes)]
        assert PICTURE not in held
        for part in held:
            if part.startswith(b"PK"):
                with ZipFile(io.BytesIO(part)) as packed:
                    assert PICTURE not in [packed.read(name) for name in packed.namelist()]


async def test_nothing_fetches_it_by_its_key_either(archive: Archive) -> None:
    (key,) = [str(row[0]) for row in archive.library.connection.execute("SELECT * FROM infected")]
    with pytest.raises(InfectedAttachmentError):
        await fetch_file(archive.place, archive.library, key)


def test_the_command_refuses_it_unless_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    attach(maker, "$bad", PICTURE, "infected", {"result": "infected", "signature": NAME})
    maker.segment()
    maker.manifest()
    output = tmp_path / "a.bin"

    def save(*more: str) -> int:
        where = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
        return main(["attachment", "$bad", f"--output={output}", *more, *where])

    with pytest.raises(InfectedAttachmentError, match="--infected"):
        save()
    assert not output.exists()
    assert save("--infected") == 0
    assert output.read_bytes() == PICTURE
    assert output.stat().st_mode & 0o777 == 0o600
    assert "Evil⟨U+202E⟩gnp" in capsys.readouterr().out
    log = "".join(path.read_text() for path in (tmp_path / "home").rglob("*.jsonl"))
    assert '"infected"' in log


def test_a_case_is_handed_over_without_it(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    attach(maker, "$bad", PICTURE, "infected", {"result": "infected", "signature": NAME})
    maker.segment()
    maker.manifest()
    where = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
    output = tmp_path / "case.zip"
    main(["case", "create", "one", *where])
    main(["case", "add", "one", "$bad", *where])
    assert main(["case", "export", "one", f"--output={output}", *where]) == 0
    with ZipFile(output) as packed:
        assert not [name for name in packed.namelist() if name.startswith("media/")]
        assert "NOT GIVEN OUT" in packed.read("transcript.html").decode()


def test_verifying_misses_it_where_it_is_said_to_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    key = attach(maker, "$bad", PICTURE, "infected", {"result": "infected", "signature": NAME})
    sent = maker.message("x", event_id="$none", media_name="b", media_status="pending")
    maker.record("media", of_seq=sent["seq"], media_status="infected", media_sha256="0" * 64)
    maker.segment()
    maker.manifest()
    where = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
    assert main(["verify", *where]) == 0
    maker.root.joinpath(key).unlink()
    assert main(["verify", *where]) == 1
    assert key in capsys.readouterr().out


def test_what_is_said_to_be_kept_and_no_manifest_lists_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    sent = maker.message("x", event_id="$bad", media_name="b", media_status="pending")
    key = f"{maker.base}/media/{'0' * 2}/{'0' * 64}"
    maker.record("media", of_seq=sent["seq"], media_status="infected", media_key=key)
    maker.segment()
    maker.manifest()
    where = [f"--destination=file:{tmp_path / 'archive'}", f"--home={tmp_path / 'home'}"]
    assert main(["verify", *where]) == 1
    assert "media" in capsys.readouterr().out
