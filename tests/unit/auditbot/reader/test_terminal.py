"""What lies in an archive cannot move an officer's cursor, colour a line or begin one of its own."""

import json
import sys
from pathlib import Path

import pytest

from auditbot.reader.cli import main
from auditbot.reader.show import show
from common.cli import main as steward
from tests.support.archive_maker import Maker

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b1;1H\u202eRIGHT\r\n2026-01-01 00:00:00 forged"
DAY = ("--from=2025-11-01", "--to=2025-11-30")
COMMANDS = (
    ("search",),
    ("search", "--format=csv"),
    ("search", "--format=jsonl"),
    ("search", "--context"),
    ("read",),
    ("read", "--json"),
    ("coverage",),
    ("rooms",),
    ("people",),
    ("report", *DAY),
    ("sql", "SELECT * FROM records"),
    ("sql", "SELECT * FROM records", "--format=jsonl"),
    ("sql", "PIVOT (SELECT msgtype, seq FROM records) ON msgtype USING count(seq)"),
    ("sample", "draw", "9", *DAY),
    ("sample", "log"),
    ("case", "show", "evil"),
    ("transcript", "!e:example.org", "--output=t.html"),
    ("verify",),
    ("log",),
)


def hostile(folder: Path) -> Maker:
    """Return an archive in which whatever a sender chooses is hostile."""
    maker = Maker(folder)
    maker.publish_key()
    chosen = {
        "room_id": "!e:example.org",
        "room_name": EVIL,
        "room_alias": f"#{EVIL}:example.org",
        "sender_name": EVIL,
        "thread_root": EVIL,
        "reply_to": EVIL,
        "enc_device_id": EVIL,
    }
    sender = f"@{EVIL}:example.org"
    empty = {"body": None, "event_json": json.dumps({"content": {}})}
    maker.message(EVIL, sender, **chosen)
    maker.message("", sender, msgtype=EVIL, **empty, **chosen)
    maker.message("", sender, event_type=EVIL, msgtype=None, **empty, **chosen)
    maker.message("", sender, event_type=EVIL, msgtype=None, state_key=EVIL, **empty, **chosen)
    maker.message("", sender, enc_status="undecryptable", enc_error=EVIL, **empty, **chosen)
    maker.message(
        "",
        sender,
        media_name=EVIL,
        media_mxc=EVIL,
        media_mime=EVIL,
        media_status=EVIL,
        enc_trust=EVIL,
        **{**empty, **chosen},
    )
    maker.message("asked", sender, event_id="$ask", **chosen)
    maker.message(
        "",
        sender,
        event_type="m.reaction",
        rel_type="m.annotation",
        rel_event_id="$ask",
        reaction_key=EVIL,
        **empty,
        **chosen,
    )
    maker.message(
        "",
        sender,
        event_type="m.room.redaction",
        redacts="$ask",
        redaction_reason=EVIL,
        **empty,
        **chosen,
    )
    maker.record("gap", action=EVIL, room_id=EVIL, detail_json="{}")
    maker.record("control", action=EVIL, actor=EVIL, detail_json="{}")
    maker.segment()
    maker.manifest()
    return maker


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_terminal_obeys_nothing_that_any_command_prints(
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    maker = hostile(tmp_path / "archive")
    options = (f"--destination=file:{maker.root}", f"--home={tmp_path / 'home'}")
    if words[:2] == ("case", "show"):
        main(["case", "create", "evil", *options])
        main(["case", "add", "evil", "--room=!e:example.org", *options])
    if words == ("sample", "log"):
        main(["sample", "draw", "9", *DAY, *options])
    capsys.readouterr()

    main([*words, *options])

    said, told = capsys.readouterr()
    assert said or words[0] == "transcript"
    for line in f"{said}\n{told}".replace("\r\n", "\n").split("\n"):
        assert line.replace("\t", "").isprintable(), line
        assert not line.startswith("2026-01-01")


@pytest.mark.parametrize(
    "field", ["time_utc", "room_id", "action", "actor", "enc_error", "msgtype"]
)
@pytest.mark.parametrize("kind", ["event", "gap", "gap_closed", "control", "receipt", "media"])
def test_no_field_of_a_record_reaches_the_terminal_as_it_is(kind: str, field: str) -> None:
    shown = show({"kind": kind, "enc_status": "undecryptable", field: EVIL})
    assert all(line.isprintable() for line in str(shown).split("\n"))


def test_a_type_is_not_taken_for_what_steward_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = Maker(tmp_path / "archive")
    maker.publish_key()
    maker.message(
        "", msgtype="deleted before it was archived", body=None, event_json='{"content": {}}'
    )
    maker.segment()
    maker.manifest()

    main(["search", f"--destination=file:{maker.root}", f"--home={tmp_path / 'home'}"])

    assert '("deleted before it was archived")' in capsys.readouterr().out


def test_a_failure_that_quotes_an_archive_is_spelled_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = hostile(tmp_path / "archive")
    options = (f"--destination=file:{maker.root}", f"--home={tmp_path / 'home'}")

    status = steward(
        ["audit", "sql", "SELECT error(msgtype) FROM records WHERE seq = 1", *options]
    )

    told = capsys.readouterr().err
    assert status == 1
    assert "DuckDB cannot answer this" in told
    assert "owned" in told
    assert "\x1b" not in told
