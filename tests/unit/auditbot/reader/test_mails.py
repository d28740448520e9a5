"""Mails and RSMF files hold every message, and their heads say what Steward says, nothing else.

Who is archived chooses names, rooms, times and the order of all of it.
"""

import email
import email.policy
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditbot.reader.index.library import Library
from auditbot.reader.transcript import mail as mails
from auditbot.reader.transcript.build import Transcript
from auditbot.reader.transcript.eml import address, write_eml
from auditbot.reader.transcript.folder import Written, write_new
from auditbot.reader.transcript.mail import Head, Mail, head_text
from auditbot.reader.transcript.rsmf import write_rsmf
from common.errors import PermanentError, UserError
from tests.support.archive_maker import Maker
from tests.unit.auditbot.reader.test_transcript import Archive

Write = Callable[[Transcript, Path], Written]

FORGED_HEAD = "=?utf-8?q?M=0D=0AX-Steward-Verified:_RIGHT=0D=0A=0D=0AForged_body?="
FORGED_COPY = "=?utf-8?q?x=0D=0ABcc:_boss=40corp?="
FORGED_SENDER = "=?utf-8?q?=22_=3Cboss=40corp.org=3E=2C_=22?="
STOPS_ALL = "=?utf-8?b?QUFBQUFBQUFB?= =?utf-8?q?=0a=0aX?="
NAMES = (
    FORGED_HEAD,
    FORGED_COPY,
    FORGED_SENDER,
    STOPS_ALL,
    'Boss" <boss@corp.org>, "',
    "=?utf-8?q?a=22?= <boss@corp.org>, =?utf-8?q?b?=",
    "A\r\nBcc: evil@example.org",
    "\\",
    "(a",
    "Doe, Jane",
    "é" * 300,
    "x" * 3000,
    "==??utf-8?q?x?=",
    "=\u200b?utf-8?q?x?=",
    "\ud800",
    "👩\u200d💻 at work",
)


class Made:
    """An archive that a test fills, and transcripts of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maker = Maker(folder / "archive")
        self.maker.publish_key()
        self.library = Library(folder / "cache")

    async def transcript(self, subject: str = "!lobby:example.org") -> Transcript:
        self.maker.segment()
        self.maker.manifest()
        archive = Archive(self.maker, self.library)
        await archive.sync()
        return await archive.transcript(subject)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    opened = Made(tmp_path)
    yield opened
    opened.library.close()


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc, arg-type]


def parsed(path: Path) -> EmailMessage:
    return email.message_from_bytes(path.read_bytes(), policy=email.policy.default)


def joined(name: str) -> str:
    """Return a name without spaces: Python 3.11 puts them between the encoded words of a name."""
    return "".join(name.split())


def text_of(path: Path) -> str:
    body = parsed(path).get_body(("plain",))
    assert body is not None
    return str(cast(Any, body).get_content())


def events_of(path: Path) -> list[dict[str, Any]]:
    (attached,) = parsed(path).iter_attachments()
    packed = zipfile.ZipFile(io.BytesIO(cast(Any, attached).get_content()))
    found: list[dict[str, Any]] = json.loads(packed.read("rsmf_manifest.json"))["events"]
    return found


@pytest.mark.parametrize("write", [write_eml, write_rsmf])
async def test_no_message_is_lost_whatever_days_senders_claim(
    made: Made, tmp_path: Path, write: Write
) -> None:
    claimed = [
        ms(2026, 3, 1, 10),
        ms(2026, 3, 1, 11),
        ms(2020, 1, 1),
        ms(2026, 3, 1, 12),
        # Of no day that a file is named by: each of these is another one.
        ms(2, 1, 1),
        ms(3, 1, 1),
        2**60,
        -(2**60),
        ms(2020, 1, 1, 1),
    ]
    for number, moment in enumerate(claimed):
        made.maker.message(f"word{number}.", ts_origin=moment)

    written = write(await made.transcript(), tmp_path / "out")

    paths = sorted((tmp_path / "out").iterdir())
    assert [path.name[:10] for path in paths] == [
        "2020-01-01",
        "2026-03-01",
        "no-time-" + paths[2].name[8:10],
    ]
    assert written == Written(len(paths), ())
    texts = "".join(text_of(path) for path in paths)
    assert [texts.count(f"word{number}.") for number in range(len(claimed))] == [1] * len(claimed)
    if write is write_rsmf:
        bodies = [event["body"] for path in paths for event in events_of(path)]
        assert sorted(bodies) == [f"word{number}." for number in range(len(claimed))]
    # In the order of the archive, whatever the times are.
    second = text_of(paths[1])
    assert second.index("word0.") < second.index("word1.") < second.index("word3.")


@pytest.mark.parametrize("write", [write_eml, write_rsmf])
async def test_an_export_is_not_mixed_with_another_one(
    made: Made, tmp_path: Path, write: Write
) -> None:
    made.maker.message("x")
    transcript = await made.transcript()
    write(transcript, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    with pytest.raises(UserError, match="move that folder away"):
        write(transcript, tmp_path / "out")

    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_file_is_never_written_over_another(tmp_path: Path) -> None:
    write_new(tmp_path / "a", b"first")
    with pytest.raises(PermanentError, match="nothing is written over it"):
        write_new(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("write", [write_eml, write_rsmf])
@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_a_name_and_nothing_else(
    made: Made, tmp_path: Path, name: str, write: Write
) -> None:
    shown = name.encode("utf-8", "replace").decode()
    made.maker.message(
        "hello", "@mallory:evil.org", sender_name=shown, room_name=shown, room_id="!r:x"
    )
    made.maker.message("hi", "@=?utf-8?q?boss=40corp.org?=:evil.org", room_id="!r:x")
    made.maker.message("ho", "@a:..", sender_name=shown, room_id="!r:x")

    written = write(await made.transcript("!r:x"), tmp_path / "out")

    assert written == Written(1, ())
    (path,) = (tmp_path / "out").iterdir()
    mail = parsed(path)
    assert mail["Bcc"] is None
    for field in ("X-Steward-Verified", "X-RSMF-Verified"):
        assert all("nothing was changed" in str(value) for value in mail.get_all(field, []))
    assert [one.addr_spec for one in mail["From"].addresses] == ["mallory@evil.org"]
    to = [one.addr_spec for one in mail["To"].addresses]
    assert to[0] == "mallory@evil.org"
    assert len(to) == 3
    assert all(one.endswith("@steward.invalid") for one in to[1:])
    assert joined(mail["From"].addresses[0].display_name).endswith("(@mallory:evil.org)")
    head = path.read_bytes().partition(b"\r\n\r\n")[0]
    assert head.isascii()
    assert max(map(len, head.split(b"\r\n"))) < 998
    assert "hello" in text_of(path)


@given(
    name=st.text(max_size=200) | st.sampled_from(NAMES),
    other=st.text(alphabet='=?utf-8bqQ_0DA"<>@,;:() \\\r\nX\u200b', max_size=80),
    user=st.text(max_size=60) | st.from_regex(r"@[!-~]{1,30}:[!-~]{1,30}", fullmatch=True),
)
@example(name=FORGED_HEAD, other=STOPS_ALL, user="@a=?utf-8?q?b?=:evil.org")
@settings(max_examples=400, deadline=None)
def test_a_head_is_read_as_it_was_meant(name: str, other: str, user: str) -> None:
    people = tuple(address(user, one) for one in (name, other, ""))
    texts = [head_text(name), head_text(other), head_text(f"{name} and {other}")]
    fields = tuple(zip(("Subject", "X-Steward-Room-Name", "X-Other"), texts, strict=True))
    content = EmailMessage(policy=SMTP)
    content.set_content("the body")

    body, is_nameless = Mail(Head(people[0], people, fields), content).as_meant()

    assert not is_nameless
    # Another reader than the one that the program itself asks.
    read = email.message_from_bytes(body, policy=email.policy.default)
    assert read.keys() == ["From", "To", *(one for one, _ in fields), *content.keys()]
    assert read.get_content().strip() == "the body"
    assert [one.addr_spec for one in read["To"].addresses] == [one.addr_spec for one in people]
    assert [joined(one.display_name) for one in read["To"].addresses] == [
        joined(one.display_name) for one in people
    ]
    assert [str(read[field]) for field, _ in fields] == texts
    # What takes it apart and writes it anew finds no encoded word in what a sender chose.
    assert not any("=?" in text for text in texts)


def test_no_text_is_decoded_that_was_not_encoded_here() -> None:
    person = address("@alice:example.org", "Alice")
    content = EmailMessage(policy=SMTP)
    content.set_content("the body")
    text = "a =?utf-8?q?b=0D=0AX:_c?= d"

    body, _ = Mail(Head(person, (person,), (("Subject", text),)), content).as_meant()

    assert email.message_from_bytes(body, policy=email.policy.default)["Subject"] == text


async def test_a_head_that_is_read_otherwise_costs_no_message_but_its_names(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(people: tuple[Address, ...]) -> list[str]:
        return [f'"{one.display_name}" <{one.addr_spec}>' for one in people]

    monkeypatch.setattr(mails, "_address_words", careless)
    made.maker.message("hello", "@mallory:evil.org", sender_name='B" <boss@corp.org>, "')

    written = write_eml(await made.transcript(), tmp_path / "out")

    (path,) = (tmp_path / "out").iterdir()
    assert "boss" not in path.read_bytes().partition(b"\r\n\r\n")[0].decode()
    assert "hello" in text_of(path)
    assert parsed(path)[mails.NAMES_LEFT_OUT] is not None
    (remark,) = written.remarks
    assert path.name in remark
    assert "left out" in remark
