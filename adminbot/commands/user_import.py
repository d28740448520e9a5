"""Making, changing and closing many accounts by a file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from adminbot.commands.protect import keep_an_admin, target
from adminbot.commands.user_accounts import free_name
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Mono,
    Pill,
    Span,
    Strong,
    Table,
    answer,
    csv_file,
    facts,
    say,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Fate, Finished, Taken, report
from adminbot.engine.people_file import MOST_BYTES, Person, Wrong, people_in
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.step import Step
from adminbot.engine.supply import Attached, Dice, Settings
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.account_state import DeactivateUser
from common.homeserver.synapse.accounts import PutUser
from common.homeserver.synapse.user_lookup import FindUserByThreepid
from common.homeserver.synapse.users import ExternalId, GetUser, ThirdPartyId, UserDetails
from common.i18n import n, t
from common.ids import UserId

MOST_SHOWN = 30
_DIFFERENCES = ("line", "user", "act", "what", "old", "new")
_RESULT = ("user", "act", "outcome", "why")

Existing = Literal["update", "skip", "refuse"]


@command(
    "user import",
    who=Role.SERVER_ADMIN,
    needs=Permission.DESTROY,
    also=(Permission.OWN, Permission.SUPPORT),
)
async def user_import(
    admin: AdminReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    attached: Attached,
    *,
    existing: Existing = "update",
) -> Plan:
    """Make, change and close accounts by a file of comma-separated values.

    Send the file with this command as its caption, or reply to the file. Columns, of which only
    user is needed: user, displayname, email, admin, type, password, deactivated, sso. An empty cell
    leaves as it is what it is about. New accounts without a password get a one-time password,
    which only you are told. Shows all differences first; --dry-run stops there.

    Args:
        existing: what to do with accounts that are there already: update, skip, or refuse the file
    """
    data = await attached.file(most_bytes=MOST_BYTES)
    if data is None:
        raise UserError(t("Send the file with “user import” as its caption, or reply to it."))
    people = people_in(data, settings.config.homeserver.server_name)
    draft = _Draft(admin, settings, caller, dice, existing)
    for person in people:
        try:
            await draft.take(person)
        except UserError as error:
            draft.wrong.note(t("Line {line}: {why}", line=person.line, why=str(error)))
    draft.wrong.check()
    await keep_an_admin(admin, settings, draft.losing)
    if not draft.steps:
        raise UserError(t("All is as the file says already; there is nothing to do."))
    return Plan(
        summary=_summary(draft.steps),
        steps=tuple(draft.steps),
        details=_shown(draft.changes),
        files=(csv_file("differences.csv", _DIFFERENCES, (one.row for one in draft.changes)),),
        typed=f"import {len(draft.steps)}",
        bulk=Bulk(),
        report="user import",
    )


@dataclass(frozen=True)
class _Change:
    """One thing that will be different, or a line that changes nothing."""

    line: int
    user: UserId
    act: str
    what: str = ""
    old: str = ""
    new: str = ""

    @property
    def row(self) -> tuple[object, ...]:
        return (self.line, self.user, self.act, self.what, self.old, self.new)


@dataclass
class _Draft:
    """The plan while it is being made, line by line."""

    admin: AdminReader
    settings: Settings
    caller: Caller
    dice: Dice
    existing: Existing
    steps: list[Step] = field(default_factory=list)
    changes: list[_Change] = field(default_factory=list)
    losing: list[UserDetails] = field(default_factory=list)
    wrong: Wrong = field(default_factory=Wrong)
    addresses: dict[str, UserId] = field(default_factory=dict)

    async def take(self, person: Person) -> None:
        """Add what one line asks for."""
        found = await self._found(person)
        if found is None:
            await self._new(person)
        elif self.existing == "refuse":
            raise UserError(t("{user} is there already.", user=person.user))
        elif self.existing == "skip":
            self._note(person, t("left alone"))
        else:
            await self._known(person, found)

    async def _found(self, person: Person) -> UserDetails | None:
        try:
            await self.admin.read(GetUser(person.user))
        except NotFoundError:
            return None
        closing = bool(person.deactivated) or person.admin is False
        return await target(
            self.admin,
            self.settings,
            self.caller,
            person.user,
            oneself=not closing,
            among_many=True,
        )

    async def _new(self, person: Person) -> None:
        if person.deactivated:
            self._note(person, t("left alone"), t("there is no such account"))
            return
        await free_name(self.admin, self.settings, person.user)
        await self._claim(person)
        self.steps.append(
            PutUser(
                user=person.user,
                new=True,
                password=person.password or self.dice.password(),
                display_name=person.display_name,
                user_type=person.type,
                admin=person.admin,
                threepids=_addresses(person.emails) if person.emails else None,
                external_ids=_identities(person) if person.identities else None,
            )
        )
        self._note(person, t("create"))
        for change in _told(person, None):
            self.changes.append(change)

    async def _known(self, person: Person, found: UserDetails) -> None:
        if person.deactivated and not found.deactivated:
            self.steps.append(DeactivateUser(person.user))
            self.losing.append(found)
            self._note(person, t("close"))
            return
        reopen = found.deactivated and person.deactivated is False
        if found.deactivated and not reopen:
            self._note(person, t("left alone"), t("the account is closed"))
            return
        told = _told(person, found)
        if not told and not reopen and person.password is None:
            return
        await self._claim(person)
        if found.admin and person.admin is False:
            self.losing.append(found)
        names = {change.what for change in told}
        phones = tuple(one for one in found.threepids if one.medium != "email")
        self.steps.append(
            PutUser(
                user=person.user,
                new=False,
                reopen=reopen,
                password=person.password or (self.dice.password() if reopen else None),
                display_name=person.display_name if "displayname" in names else None,
                user_type=person.type if "type" in names else None,
                admin=person.admin if "admin" in names else None,
                threepids=(
                    (*_addresses(person.emails or ()), *phones) if "email" in names else None
                ),
                external_ids=_identities(person) if "sso" in names else None,
            )
        )
        if reopen:
            self._note(person, t("open again"))
        if person.password is not None:
            self._note(person, t("change"), "password")
        self.changes.extend(told)

    async def _claim(self, person: Person) -> None:
        """See that nobody else has an address; the homeserver would take it from them."""
        for address in person.emails or ():
            other = self.addresses.setdefault(address, person.user)
            if other == person.user:
                try:
                    other = await self.admin.read(FindUserByThreepid("email", address))
                except NotFoundError:
                    continue
            if other != person.user:
                raise UserError(
                    t("{address} belongs to {user}.", address=Mono(address), user=other)
                )

    def _note(self, person: Person, act: str, what: str = "") -> None:
        self.changes.append(_Change(person.line, person.user, act, what))


def _told(person: Person, found: UserDetails | None) -> list[_Change]:
    """Return what a line says otherwise than it is."""
    act = t("create") if found is None else t("change")
    emails = {one.address for one in found.threepids if one.medium == "email"} if found else set()
    ids = (
        {f"{one.auth_provider}:{one.external_id}" for one in found.external_ids}
        if found
        else set()
    )
    wanted_ids = (
        None if person.identities is None else {":".join(one) for one in person.identities}
    )
    wanted_emails = None if person.emails is None else set(person.emails)
    held = (
        ("displayname", (found.displayname or "") if found else "", person.display_name),
        ("email", _sorted(emails), None if wanted_emails is None else _sorted(wanted_emails)),
        ("admin", _flag(found is not None and found.admin), _wanted_flag(person.admin)),
        ("type", (found.user_type or "") if found else "", person.type),
        ("sso", _sorted(ids), None if wanted_ids is None else _sorted(wanted_ids)),
    )
    return [
        _Change(person.line, person.user, act, what, old, new)
        for what, old, new in held
        if new is not None and new != old
    ]


def _sorted(words: Iterable[str]) -> str:
    return " ".join(sorted(words))


def _flag(on: bool) -> str:  # noqa: FBT001  # it is the value
    return "yes" if on else "no"


def _wanted_flag(on: bool | None) -> str | None:  # noqa: FBT001  # it is the value
    return None if on is None else _flag(on)


def _addresses(emails: Iterable[str]) -> tuple[ThirdPartyId, ...]:
    return tuple(ThirdPartyId("email", address) for address in emails)


def _identities(person: Person) -> tuple[ExternalId, ...]:
    return tuple(ExternalId(provider, one) for provider, one in person.identities or ())


def _shown(changes: Sequence[_Change]) -> tuple[Block, ...]:
    rows: list[tuple[Span, ...]] = [
        (
            str(one.line),
            Pill(one.user),
            one.act,
            Mono(one.what) if one.what else "",
            Mono(one.old) if one.old else "",
            Mono(one.new) if one.new else "",
        )
        for one in changes[:MOST_SHOWN]
    ]
    columns = (t("Line"), t("User"), t("What"), t("Of it"), t("Now"), t("Then"))
    blocks: list[Block] = [Table(columns, tuple(rows))]
    if len(changes) > len(rows):
        blocks.append(
            say(
                n(
                    "{count} more difference is in the file.",
                    "{count} more differences are in the file.",
                    len(changes) - len(rows),
                )
            )
        )
    return tuple(blocks)


def _act(step: object) -> str:
    if isinstance(step, DeactivateUser):
        return "close"
    if isinstance(step, PutUser) and step.new:
        return "create"
    return "open again" if isinstance(step, PutUser) and step.reopen else "change"


def _count(steps: Iterable[object], *acts: str) -> int:
    return sum(1 for step in steps if _act(step) in acts)


def _summary(steps: Sequence[Step]) -> str:
    return t(
        "Import: create {made}, change {changed}, close {closed}",
        made=_count(steps, "create"),
        changed=_count(steps, "change", "open again"),
        closed=_count(steps, "close"),
    )


@report("user import")
def imported(finished: Finished) -> Answer:
    """Say what became of every line, and new passwords to who asked alone."""
    done = [each.step for each in finished.with_fate(Fate.DONE)]
    wrong = finished.with_fate(Fate.FAILED, Fate.UNSURE)
    waiting = finished.with_fate(Fate.WAITING)
    head = t("The import is done.") if finished.all_done else t("The import is not complete.")
    card = facts(
        [
            (t("Created"), str(_count(done, "create"))),
            (t("Changed"), str(_count(done, "change", "open again"))),
            (t("Closed"), str(_count(done, "close"))),
            (t("Failed"), str(len(wrong)) if wrong else None),
            (t("Not begun"), str(len(waiting)) if waiting else None),
        ]
    )
    rows = (
        (_user(each), _act(each.step), each.fate.value, each.detail) for each in finished.taken
    )
    said = answer(say(Strong(head)), card).with_file(csv_file("result.csv", _RESULT, rows))
    secret = _passwords(finished)
    return said if secret is None else Answer(said.blocks, said.files, private=secret)


def _passwords(finished: Finished) -> Answer | None:
    rows = [
        (_user(each), password.reveal())
        for each in finished.with_fate(Fate.DONE, Fate.UNSURE)
        if isinstance(password := getattr(each.step, "password", None), Secret)
    ]
    if not rows:
        return None
    note = n("{count} password is in the file.", "{count} passwords are in the file.", len(rows))
    return answer(note).with_file(csv_file("passwords.csv", ("user", "password"), rows))


def _user(each: Taken) -> str:
    return str(getattr(each.step, "user", ""))
