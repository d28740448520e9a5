"""Maintenance of the server: everybody is told, and sign-ups are closed meanwhile if wanted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from adminbot.commands.audience import only_people, open_accounts
from adminbot.commands.notice_plans import (
    Around,
    Wish,
    bulk_of,
    content_of,
    how_long,
    kept,
    later,
    ms,
    quoted_content,
)
from adminbot.commands.token_list import state_of
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Block, Pill, answer, facts, say, when
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.server_steps import ExpireToken, RecallNotice, SendNotice
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Attached, Available, Settings
from adminbot.engine.values import Text
from adminbot.own.memory import MAINTENANCE, Remember, Remembered
from adminbot.own.notices import NoticeReaders, Notices
from adminbot.own.tokens import TokenNotes, digest_of
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.registration_tokens import (
    ListRegistrationTokens,
    RegistrationToken,
    UpdateRegistrationToken,
    masked,
)
from common.i18n import n, t
from common.ids import UserId

NO_WORDS = Text("")


@dataclass(frozen=True)
class Maintenance:
    """One that is under way: its notice by name, and the tokens that it closed.

    These by digest, with when they were to expire, in milliseconds or ``None``.
    """

    notice: str
    by: UserId
    since_ms: int
    tokens: Mapping[str, int | None]


@command(
    "maintenance start",
    who=Role.SERVER_ADMIN,
    needs=Permission.MANAGE,
    also=[Permission.SUPPORT],
)
async def maintenance_start(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    words: Text = NO_WORDS,
    *,
    lock: bool = False,
    at: datetime | None = None,
) -> Plan:
    """Tell everybody of maintenance by a notice that “maintenance stop” takes back.

    A homeserver has no switch that keeps people from writing. What --lock closes are
    registrations by token; those without a token, or by single sign-on, it does not.

    Args:
        words: what it says, after the options; left out, it is the message that you reply to
        lock: also keep every valid registration token from being used until it is over
        at: when to begin, e.g. “tomorrow 9:00”
    """
    around = Around(admin, own, caller, attached, settings, available)
    if at is not None:
        name = ("maintenance start", *(("--lock",) if lock else ()))
        return await later(around, name, words, Wish(at=at))
    if (running := await _running(own)) is not None:
        raise UserError(
            t(
                "Maintenance is under way since {moment}; “maintenance stop” ends it.",
                moment=when(running.since_ms, caller.now) or "",
            )
        )
    content = await content_of(attached, words)
    people = await only_people(admin, own, await open_accounts(admin))
    # As of the command: who signs up between question and answer makes it no other plan.
    chosen = sorted(one.name for one in people if (one.creation_ts or 0) <= ms(caller.now))
    tokens = await _valid(admin, caller) if lock else ()
    begun = Maintenance(
        caller.command,
        caller.actor.user,
        ms(caller.now),
        {digest_of(one.token): one.expiry_time for one in tokens},
    )
    bulk = bulk_of(settings, None)
    details: list[Block] = [*quoted_content(content), say(how_long(len(chosen), bulk))]
    if lock:
        details.append(say(_closing(tokens)))
    return Plan(
        summary=n(
            "Begin maintenance and tell everybody: {count} person",
            "Begin maintenance and tell everybody: {count} people",
            len(chosen),
        ),
        steps=(
            Remember(
                MAINTENANCE,
                _written(begun, lock=lock),
                t("Remember that maintenance is under way"),
            ),
            kept(caller, content, t("everybody")),
            *_closed(tokens),
            *(SendNotice(caller.command, user) for user in chosen),
        ),
        details=tuple(details),
        bulk=bulk,
        report="notice",
        ask=True,
    )


@command(
    "maintenance stop",
    who=Role.SERVER_ADMIN,
    needs=Permission.MANAGE,
    also=[Permission.SUPPORT],
)
async def maintenance_stop(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    attached: Attached,
    settings: Settings,
    available: Available,
    words: Text = NO_WORDS,
    *,
    at: datetime | None = None,
) -> Plan:
    """End maintenance: its notice is taken back, and registration tokens that it closed are valid.

    Args:
        words: what who was told of it is told now; left out, nothing
        at: when to end it, e.g. “tomorrow 12:00”
    """
    around = Around(admin, own, caller, attached, settings, available)
    if at is not None:
        return await later(around, ("maintenance stop",), words, Wish(at=at), wordless=True)
    running = await _running(own)
    if running is None:
        raise UserError(t("No maintenance is under way."))
    people = await own.read(NoticeReaders(running.notice))
    steps: list[Step] = [
        Remember(MAINTENANCE, "", t("Remember that maintenance is over")),
        *await _opened(admin, own, caller, running),
        *(RecallNotice(running.notice, user) for user in people),
    ]
    details: tuple[Block, ...] = ()
    if words.strip():
        content = await content_of(attached, words)
        steps.append(kept(caller, content, t("everybody")))
        steps += [SendNotice(caller.command, user) for user in people]
        details = quoted_content(content)
    return Plan(
        summary=n(
            "End maintenance, and take its notice back from {count} person",
            "End maintenance, and take its notice back from {count} people",
            len(people),
        ),
        steps=tuple(steps),
        details=details,
        bulk=bulk_of(settings, None),
        ask=True,
    )


@command("maintenance status", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def maintenance_status(own: OwnReader, caller: Caller) -> Answer:
    """Say whether maintenance is under way, since when, and what it has closed."""
    running = await _running(own)
    if running is None:
        return answer(t("No maintenance is under way."))
    notices = [one for one in await own.read(Notices(limit=1000)) if one.notice == running.notice]
    return answer(
        facts(
            [
                (t("Since"), when(running.since_ms, caller.now)),
                (t("Begun by"), Pill(running.by)),
                (t("Notice"), str(notices[0].number) if notices else None),
                (t("Have it"), str(notices[0].sent) if notices else None),
                (t("Closed tokens"), str(len(running.tokens))),
            ]
        )
    )


async def _running(own: OwnReader) -> Maintenance | None:
    text = await own.read(Remembered(MAINTENANCE))
    if not text:
        return None
    held: Mapping[str, object] = json.loads(text)
    tokens = held.get("tokens")
    return Maintenance(
        str(held["notice"]),
        UserId(str(held["by"])),
        int(str(held["since_ms"])),
        tokens if isinstance(tokens, dict) else {},
    )


def _written(one: Maintenance, *, lock: bool) -> str:
    held = {"notice": one.notice, "by": one.by, "since_ms": one.since_ms, "lock": lock}
    return json.dumps({**held, "tokens": dict(one.tokens)})


async def _valid(admin: AdminReader, caller: Caller) -> tuple[RegistrationToken, ...]:
    now_ms = ms(caller.now)
    found = await admin.read(ListRegistrationTokens())
    return tuple(one for one in found if state_of(one, now_ms) == "valid")


def _closing(tokens: Sequence[RegistrationToken]) -> str:
    if not tokens:
        return t("There is no valid registration token to close.")
    return n(
        "{count} registration token is closed until it is over.",
        "{count} registration tokens are closed until it is over.",
        len(tokens),
    )


def _closed(tokens: Sequence[RegistrationToken]) -> list[Step]:
    return [ExpireToken(Secret(one.token), masked(one.token)) for one in tokens]


async def _opened(
    admin: AdminReader, own: OwnReader, caller: Caller, running: Maintenance
) -> list[Step]:
    """Return the steps for those that are closed still; what was changed by hand stays so."""
    if not running.tokens:
        return []
    now_ms, notes = ms(caller.now), await own.read(TokenNotes())
    steps: list[Step] = []
    for one in await admin.read(ListRegistrationTokens()):
        digest = digest_of(one.token)
        if digest not in running.tokens or (one.expiry_time or 2**62) >= now_ms:
            continue
        note = notes.get(digest)
        if note is not None and note.uses is not None:
            continue  # somebody has switched it off meanwhile
        before = running.tokens[digest]
        if before is None or before > now_ms:
            steps.append(
                UpdateRegistrationToken(
                    token=one.token, uses_allowed=one.uses_allowed, expires_ms=before
                )
            )
    return steps
