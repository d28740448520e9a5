"""Nothing is deleted that enough officers have not approved, and the archive says who did."""

import argparse
import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyrage
import pytest

from auditbot.operations import approving, holds, over, retention
from auditbot.operations.cli import _parser
from auditbot.operations.desk import Desk
from auditbot.pipeline.segment import DAY_MS
from auditbot.reader.cli import main
from auditbot.reader.cosigning.key import Signer, make_key
from auditbot.reader.verify.approvals import Wanted
from auditbot.reader.verify.findings import Severity
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.report import as_json, as_text
from auditbot.reader.verify.run import verify
from auditbot.signing import Keyring
from auditbot.storage.reading import DirectoryPlace
from common.approvals import Approval, parse_plan
from common.clock import SystemClock
from common.database.pool import Database
from common.errors import ConfigError, UserError
from tests.support.databases import open_database, sqlite_url
from tests.unit.auditbot.builders import NOON, StoppedClock, message, new_room
from tests.unit.auditbot.test_media import PNG, image
from tests.unit.auditbot.test_operations import TODAY, Office


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(sqlite_url(tmp_path)) as opened:
        yield opened


@dataclass
class Bureau:
    """An archive of which two of three officers have to approve each deletion."""

    office: Office
    folder: Path
    anna: Signer
    bert: Signer
    cora: Signer

    @property
    def desk(self) -> Desk:
        return self.office.desk

    async def types(self, *words: str | Path) -> str:
        arguments: argparse.Namespace = _parser().parse_args([str(word) for word in words])
        told: str = await arguments.act(self.desk, arguments)
        return told

    async def plan(self, *words: str, name: str = "plan") -> Path:
        path = self.folder / name
        told = await self.types(*words, "--plan", path)
        assert "this was a dry run. The plan is in" in told
        return path

    def there(self) -> set[str]:
        return {event for event in self.office.events() if not event.startswith("$m.room.")}

    def signs(self, signer: Signer, plan: Path, *, later_ms: int = 0) -> Path:
        time_s = (self.office.world.clock.now_ms() + later_ms) // 1000
        body = plan.read_bytes()
        approval = Approval(
            v=1, type="steward.approval", plan=body.decode(), signed=signer.approve(body, time_s)
        )
        path = plan.with_name(f"{plan.name}-{signer.public.hint.hex()}-{later_ms}")
        path.write_bytes(approval.body)
        return path

    async def applies(self, *words: str | Path) -> str:
        """Carry out what is approved in the files that are named last."""
        paths = [word for word in words if isinstance(word, Path)]
        others = [word for word in words if not isinstance(word, Path)]
        files = [text for path in paths for text in ("--approval", str(path))]
        return await self.types(*others, "--apply", *files)

    async def refuses(self, why: str, *words: str | Path) -> None:
        before = self.office.objects()
        with pytest.raises(UserError, match=why):
            await self.applies(*words)
        assert self.office.objects() == before

    async def verified(self, wanted: Wanted | None = None) -> Verified:
        root = self.office.world.directory / "archive"
        options = Options(now_ms=self.office.world.clock.now_ms(), destination=f"file:{root}")
        if wanted is not None:
            options = replace(options, approvals=wanted)
        (result,) = await verify(DirectoryPlace(root), options)
        return result


def wrong(result: Verified) -> list[str]:
    return [one.code for one in result.findings.of(Severity.WRONG)]


async def bureau_of(office: Office, folder: Path) -> Bureau:
    people = [make_key(folder / name, f"{name}.example.com") for name in ("anna", "bert", "cora")]
    office.world.approvers = tuple(one.public.text for one in people)
    office.world.approvals_needed = 2
    office.start()
    return Bureau(office, folder, *people)


@pytest.fixture
async def bureau(database: Database, tmp_path: Path) -> Bureau:
    """Three days in the past, each with a message, the first with an attachment too."""
    office = Office(database, tmp_path)
    office.files.held["mxc://example.org/a"] = PNG
    await office.say(*new_room("@bob:example.org"), message("$1"), image("$image"))
    await office.store()
    for day in (1, 2):
        office.at(NOON + day * DAY_MS)
        await office.say(message(f"${day + 1}"))
        await office.store()
    office.at(TODAY)
    await office.say(message("$today"))
    await office.store()
    return await bureau_of(office, tmp_path)


RETAIN = ("retention", "--keep-days=30")


async def test_what_two_officers_approved_is_deleted_and_the_archive_says_so(
    bureau: Bureau,
) -> None:
    plan = await bureau.plan(*RETAIN)
    assert bureau.there() == {"$1", "$image", "$2", "$3", "$today"}
    approvals = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]

    assert "objects were deleted" in await bureau.applies(*RETAIN, *approvals)
    await bureau.office.store()

    assert bureau.there() == {"$today"}
    (detail,) = bureau.office.controls("removal")
    assert detail["approved_by"] == ["anna.example.com", "bert.example.com"]
    document = json.loads(bureau.office.objects()[detail["document"]])
    assert document["approved"]["plan"] == plan.read_text()
    wanted = Wanted((bureau.anna.public, bureau.bert.public), 2)
    result = await bureau.verified(wanted)
    assert wrong(result) == []
    said = "approved      1 removal or erasure by anna.example.com (1), bert.example.com (1)"
    assert said in as_text(result, "file:archive")
    assert as_json(result)["approvals"] == {
        "documents": 1,
        "without": 0,
        "by": {bureau.anna.public.text: 1, bureau.bert.public.text: 1},
    }
    strangers = Wanted((bureau.anna.public, bureau.cora.public), 2)
    assert wrong(await bureau.verified(strangers)) == ["not_approved"]
    later = replace(strangers, since_ms=bureau.office.world.clock.now_ms() + DAY_MS)
    assert wrong(await bureau.verified(later)) == []
    # Typed once more it finds that all is done.
    assert "0 attachments" in await bureau.applies(*RETAIN, *approvals)


async def test_nothing_is_deleted_without_enough_approvals(bureau: Bureau) -> None:
    plan = await bureau.plan(*RETAIN)
    anna, again = bureau.signs(bureau.anna, plan), bureau.signs(bureau.anna, plan, later_ms=2000)
    bert = bureau.signs(bureau.bert, plan)
    stranger = make_key(bureau.folder / "mallory", "anna.example.com")
    forged = bureau.folder / "forged"
    approval = msgspec.json.decode(bert.read_bytes(), type=Approval)
    signed = msgspec.structs.replace(approval.signed, key=bureau.cora.public.text)
    forged.write_bytes(msgspec.structs.replace(approval, signed=signed).body)
    spaced = bureau.folder / "spaced"
    spaced.write_bytes(bert.read_bytes() + b"\n")
    late = bureau.signs(bureau.bert, plan, later_ms=8 * DAY_MS)

    for why, files in (
        ("2 of auditbot.approvers must approve", []),
        ("only “anna.example.com” approved", [anna]),
        ("only “anna.example.com” approved", [anna, again, anna]),
        ("does not name “anna.example.com”", [bert, bureau.signs(stranger, plan)]),
        ("not that of “cora.example.com”", [anna, forged]),
        ("it was changed", [anna, spaced]),
        ("after it had expired", [anna, late]),
        ("is no approval", [anna, plan]),
        ("cannot be read", [anna, bureau.folder / "nowhere"]),
    ):
        await bureau.refuses(why, *RETAIN, *files)


async def test_the_function_itself_refuses_what_was_not_approved(bureau: Bureau) -> None:
    found = await over.survey(bureau.desk, keep_days=30)
    with pytest.raises(UserError, match="must approve it first"):
        await retention.apply(bureau.desk, found, keep_days=30)


async def test_two_approvals_of_different_plans_are_none(bureau: Bureau) -> None:
    plan = await bureau.plan(*RETAIN)
    other = await bureau.plan(*RETAIN, name="other")

    await bureau.refuses(
        "of different plans",
        *RETAIN,
        bureau.signs(bureau.anna, plan),
        bureau.signs(bureau.bert, other),
    )


async def test_another_policy_is_another_plan(bureau: Bureau) -> None:
    plan = await bureau.plan("retention", "--keep-days=98")
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]

    await bureau.refuses("what was asked for", *RETAIN, *files)


async def test_a_hold_since_makes_another_plan_needed(bureau: Bureau) -> None:
    plan = await bureau.plan(*RETAIN)
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    await holds.add(bureau.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None)

    told = await bureau.applies(*RETAIN, *files)

    assert "KEPT by hold" in told
    assert bureau.there() == {"$1", "$image", "$2", "$3", "$today"}


async def test_a_hold_of_one_day_since_makes_another_plan_needed(bureau: Bureau) -> None:
    plan = await bureau.plan(*RETAIN)
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    await holds.add(
        bureau.desk, reason="a case", rooms=[], users=[], from_ms=NOON, to_ms=NOON + DAY_MS // 2
    )

    await bureau.refuses("is not what would be done now; other are", *RETAIN, *files)


async def test_what_is_over_a_day_later_does_not_spoil_the_plan(bureau: Bureau) -> None:
    bureau.office.at(NOON + 31 * DAY_MS)
    plan = await bureau.plan(*RETAIN)
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    bureau.office.at(NOON + 33 * DAY_MS)

    await bureau.applies(*RETAIN, *files)
    await bureau.office.store()

    assert bureau.there() == {"$2", "$3", "$today"}


async def test_a_plan_expires(bureau: Bureau) -> None:
    bureau.office.at(NOON + 40 * DAY_MS)
    plan = await bureau.plan(*RETAIN, "--valid-days=2")
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    bureau.office.at(NOON + 42 * DAY_MS + 1)

    await bureau.refuses("the plan expired", *RETAIN, *files)


async def test_another_key_of_the_archive_is_another_archive(bureau: Bureau) -> None:
    plan = await bureau.plan(*RETAIN)
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    async with bureau.desk.database.transaction() as connection:
        keys = Keyring(bureau.office.world.config.encryption.pickle_key)
        await keys.make(connection, now_ms=TODAY)

    await bureau.refuses("the archive's signing key", *RETAIN, *files)


async def test_a_plan_with_other_words_than_steward_s_is_refused(bureau: Bureau) -> None:
    """Whoever makes the plan cannot have officers approve what they are not shown."""
    plan = await bureau.plan(*RETAIN)
    known = parse_plan(plan.read_bytes())
    for other in (
        msgspec.structs.replace(known, lines=("1 attachment",)),
        msgspec.structs.replace(known, counts={**known.counts, "records": 1}),
        msgspec.structs.replace(known, server_name="example.com"),
        msgspec.structs.replace(known, documents=(known.documents[0], known.documents[0])),
    ):
        path = bureau.folder / "told-otherwise"
        path.write_bytes(other.body)
        files = [bureau.signs(one, path) for one in (bureau.anna, bureau.bert)]
        await bureau.refuses("is not what would be done now", *RETAIN, *files)


async def test_an_approval_is_not_asked_for_where_none_is_needed(bureau: Bureau) -> None:
    plan = await bureau.plan(*RETAIN)
    file = bureau.signs(bureau.anna, plan)
    bureau.office.world.approvers, bureau.office.world.approvals_needed = (), 0

    await bureau.refuses("There is nobody whose approval counts", *RETAIN, file)
    with pytest.raises(UserError, match="is for --apply"):
        await bureau.types(*RETAIN, "--approval", file)
    await bureau.types(*RETAIN, "--apply")
    await bureau.office.store()

    result = await bureau.verified()
    assert (result.approvals.documents, result.approvals.without) == (0, 1)
    assert "approved  " not in as_text(result, "file:archive")
    assert wrong(await bureau.verified(Wanted((bureau.anna.public,), 1))) == ["not_approved"]


def other_list(document: dict[str, object], bureau: Bureau) -> None:
    objects = document["objects"]
    assert isinstance(objects, list)
    objects.pop()


def other_signature(document: dict[str, object], bureau: Bureau) -> None:
    approved = document["approved"]
    assert isinstance(approved, dict)
    approved["approvals"][0]["key"] = bureau.cora.public.text


def other_plan(document: dict[str, object], bureau: Bureau) -> None:
    approved = document["approved"]
    assert isinstance(approved, dict)
    approved["plan"] = approved["plan"].replace('"retention"', '"erasure"')


def no_form(document: dict[str, object], bureau: Bureau) -> None:
    document["approved"] = {"plan": 1}


@pytest.mark.parametrize("change", [other_list, other_signature, other_plan, no_form])
async def test_who_has_the_signing_key_cannot_make_an_approval_fit(
    change: Callable[[dict[str, object], Bureau], None], bureau: Bureau
) -> None:
    plan = await bureau.plan(*RETAIN)
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    await bureau.applies(*RETAIN, *files)
    await bureau.office.store()
    assert wrong(await bureau.verified()) == []
    (detail,) = bureau.office.controls("removal")
    path = bureau.office.world.directory / "archive" / detail["document"]
    document = json.loads(path.read_bytes())
    change(document, bureau)
    body = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    async with bureau.desk.database.transaction() as connection:
        signer = await bureau.desk.keys.current(connection, now_ms=TODAY)
    path.write_bytes(body)
    path.with_suffix(".sig").write_bytes(signer.sign(body))

    assert "approval" in wrong(await bureau.verified())


IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
async def erasable(database: Database, tmp_path: Path) -> Bureau:
    office = Office(database, tmp_path)
    office.world.recipients = tuple(str(one.to_public()) for one in IDENTITIES)
    office.world.erasable = True
    office.start()
    await office.say(*new_room("@bob:example.org"), message("$1", "said first"))
    await office.store()
    office.at(NOON + DAY_MS)
    await office.say(message("$2", "said next"))
    await office.store()
    office.at(NOON + 2 * DAY_MS)
    return await bureau_of(office, tmp_path)


ERASE = ("erase", "--from=2025-11-24", "--reason=a court said so")


async def test_an_erasure_is_approved_likewise(erasable: Bureau) -> None:
    bureau = erasable
    key = next(key for key in bureau.office.objects() if "/keys/day-" in key and "-11-24" in key)
    plan = await bureau.plan(*ERASE)
    anna, bert = (bureau.signs(one, plan) for one in (bureau.anna, bureau.bert))
    await bureau.refuses("must approve it first", *ERASE)
    await bureau.refuses("only “bert.example.com” approved", *ERASE, bert)
    other = ("erase", "--from=2025-11-24", "--reason=he asked for it")
    await bureau.refuses("other are the reason", *other, anna, bert)
    two = ("erase", "--from=2025-11-24", "--to=2025-11-25", "--reason=a court said so")
    await bureau.refuses("the objects", *two, anna, bert)
    await bureau.refuses("the act", "retention", "--keep-days=1", anna, bert)

    assert "1 keys were destroyed" in await bureau.applies(*ERASE, anna, bert)
    await bureau.office.store()

    assert key not in bureau.office.objects()
    result = await bureau.verified(Wanted((bureau.anna.public, bureau.bert.public), 2))
    assert wrong(result) == []
    assert result.approvals.documents == 1


async def test_a_held_day_is_refused_and_recorded_whoever_approved_it(erasable: Bureau) -> None:
    bureau = erasable
    plan = await bureau.plan(*ERASE)
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    await holds.add(bureau.desk, reason="a case", rooms=[], users=[], from_ms=None, to_ms=None)

    with pytest.raises(UserError, match="Nothing was erased: the days are held"):
        await bureau.applies(*ERASE, *files)


async def test_the_archive_says_how_many_have_to_approve(bureau: Bureau) -> None:
    await bureau.office.say(message("$afterwards"))
    await bureau.office.store()

    (changed,) = bureau.office.controls("settings_changed")
    assert changed["changed"]["approvals_needed"] == {"before": None, "now": 2}


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def types(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    return types


def is_there(path: Path) -> bool:
    return os.path.lexists(path)


async def test_an_officer_is_shown_the_plan_and_asked(
    bureau: Bureau,
    tmp_path: Path,
    typing: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    anna = make_key(home / "officer", "anna@desk.example.com")
    bureau.office.world.clock = StoppedClock(SystemClock().now_ms())
    plan = await bureau.plan(*RETAIN)

    path = tmp_path / f"plan.approval-{anna.public.hint.hex()}"

    async def approves(answer: str, *words: str) -> int:
        typing(answer)
        return await asyncio.to_thread(main, ["approve", str(plan), f"--home={home}", *words])

    assert await approves("") == 1
    assert await approves("yes\n") == 1
    assert not is_there(path)
    capsys.readouterr()
    assert await approves("approve\n") == 0
    said = capsys.readouterr().out
    assert "Delete by age: the archive of example.org" in said
    assert "    keep days     30\n" in said
    assert "    segments      " in said
    assert "2025-11-24  " in said
    approval = msgspec.json.decode(path.read_bytes(), type=Approval)
    assert approval.plan == plan.read_text()
    assert approval.signed.key == anna.public.text
    assert "approved" in (home / "access.jsonl").read_text()

    assert await approves("approve\n") == 2
    assert "is there already" in capsys.readouterr().err
    plan.write_bytes(plan.read_bytes().replace(b'"keep_days":30', b'"keep_days": 3'))
    assert await approves("approve\n", f"--output={tmp_path / 'other'}") == 2
    assert "is no plan" in capsys.readouterr().err
    plan.write_bytes(b"[" * 100_000)
    assert await approves("approve\n", f"--output={tmp_path / 'other'}") == 2


async def test_a_plan_that_has_expired_is_not_signed(
    bureau: Bureau,
    tmp_path: Path,
    typing: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    make_key(home / "officer", "anna.example.com")
    plan = await bureau.plan(*RETAIN)
    typing("approve\n")

    assert await asyncio.to_thread(main, ["approve", str(plan), f"--home={home}"]) == 2
    assert "The plan has expired" in capsys.readouterr().err


def test_verify_wants_to_know_whose_approvals(tmp_path: Path) -> None:
    for words in (["--approvals=2"], ["--approvals-since=2026-01-01"]):
        with pytest.raises(ConfigError, match="Whose approvals"):
            main(["verify", f"--destination=file:{tmp_path}", f"--home={tmp_path}", *words])


LAST_OVER = NOON // DAY_MS + 2
SEGMENT_GONE = (
    "UPDATE audit_segment SET removed_ms = 1 WHERE first_seq ="
    f" (SELECT max(first_seq) FROM audit_segment WHERE day <= {LAST_OVER})"
)
KEY_GONE = "UPDATE audit_day_key SET state = 'erased'"


async def overtaken(
    bureau: Bureau, words: tuple[str, ...], statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """See that what is announced is exactly what was approved, or nothing."""
    plan = await bureau.plan(*words)
    files = [bureau.signs(one, plan) for one in (bureau.anna, bureau.bert)]
    whole = approving.agreed

    async def agreed(*arguments: Any) -> Any:
        found = await whole(*arguments)
        async with bureau.desk.database.transaction() as connection:
            await connection.execute(statement)
        return found

    monkeypatch.setattr(approving, "agreed", agreed)

    await bureau.refuses("is not what would be done now", *words, *files)


async def test_what_goes_at_the_same_moment_leaves_all_to_another_plan(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    await overtaken(bureau, RETAIN, SEGMENT_GONE, monkeypatch)


async def test_a_key_that_goes_at_the_same_moment_leaves_all_to_another_plan(
    erasable: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    await overtaken(erasable, ERASE, KEY_GONE, monkeypatch)
