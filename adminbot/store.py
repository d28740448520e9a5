"""Commands and plans that wait, in the database: nothing is obeyed that is not in here.

The promise: a command is taken in once, a plan confirmed once and carried out once, whatever
crashes in between.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass

from adminbot import rows
from adminbot.engine.confirm import (
    LIFETIME_MS,
    SECOND_LIFETIME_MS,
    Reaction,
    Verdict,
    code_for,
    judge,
)
from adminbot.engine.intake import Confirmation, Press, Request, Source
from adminbot.engine.kept import kept
from adminbot.engine.plan import Plan
from adminbot.engine.waiting import Asked, Job, Unreadable
from common.clock import Clock
from common.crypto.port import SessionRef, Trust
from common.database.pool import Connection, Database
from common.ids import EventId

UNREADABLE_AT_ONCE = 50

Begin = Callable[[Connection], Awaitable[None]]
"""Writes down, inside a transaction, that a plan is being carried out."""

KEPT_MS = 7 * 86_400_000
"""How long a finished command's name is kept, so that it is never taken in again."""


@dataclass(frozen=True)
class Store:
    """The tables ``admin_command``, ``admin_plan`` and ``admin_unreadable``."""

    database: Database
    clock: Clock

    # Taking in: called inside the transaction that moves the bot's cursor.

    async def take_in(self, connection: Connection, request: Request, trust: Trust | None) -> None:
        """Keep a command; a second time changes nothing."""
        await connection.execute(
            "INSERT INTO admin_command (event_id, room_id, sender, text, formatted, thread,"
            " addressed, trust, origin_ms, received_ms, status, attempts, due_ms, replies_to,"
            " captions, source)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'received', 0, 0, $11, $12, $13)"
            " ON CONFLICT (event_id) DO NOTHING",
            request.event,
            request.room,
            request.sender,
            request.text,
            request.formatted,
            request.thread,
            int(request.addressed),
            None if trust is None else trust.value,
            request.origin_ms,
            self.clock.now_ms(),
            request.replies_to,
            int(request.captions),
            request.source.value,
        )

    async def take_press(self, connection: Connection, press: Press) -> bool:
        """Take a button's command in, as given by who pressed it; return whether it is one."""
        row = await connection.fetchrow(
            "SELECT command, thread_id FROM admin_button WHERE card_id = $1 AND key = $2 AND room_id = $3"
            " AND until_ms > $4",
            press.card,
            press.key,
            press.room,
            self.clock.now_ms(),
        )
        if row is None:
            return False
        request = Request(
            event=press.event,
            room=press.room,
            sender=press.sender,
            origin_ms=press.origin_ms,
            text=row["command"],
            formatted=None,
            # A thread cannot begin at a message that is in one itself.
            thread=EventId(row["thread_id"] or press.card),
            addressed=True,
            replies_to=press.card,
            source=Source.BUTTON,
        )
        await self.take_in(connection, request, None)
        return True

    async def take_confirmation(self, connection: Connection, reply: Confirmation) -> bool:
        """Mark the plan that a reply confirms, once; return whether there was one."""
        if isinstance(reply.reply, Reaction):
            # Before looking: this locks a row whose question is just being sent, so that either
            # question_sent sees the reaction or we see the question's name.
            await connection.execute(
                "UPDATE admin_plan SET early_reaction = $1 WHERE room_id = $2"
                " AND requester = $3 AND status = 'asking' AND second = 0",
                reply.reply.event,
                reply.room,
                reply.sender,
            )
        found = await connection.fetch(
            "SELECT * FROM admin_plan WHERE room_id = $1 AND requester = $2"
            " AND status IN ('asking', 'asked') AND second = 0"
            # The name of a room that is to be typed is the same for everything done to it:
            # what was asked last is meant.
            " ORDER BY expires_ms DESC, event_id DESC",
            reply.room,
            reply.sender,
        )
        for row in found:
            if row["typed"] and row["question_id"] is None:
                # What has to be typed is the same for every plan about one thing; this one may
                # have changed since the person was asked, and has not been shown yet.
                continue
            verdict = judge(rows.pending(row), reply.sender, reply.reply, self.clock.now_ms())
            if verdict is Verdict.CONFIRMED:
                confirmed = await connection.fetchrow(
                    "UPDATE admin_plan SET status = 'confirmed' WHERE event_id = $1"
                    " AND status IN ('asking', 'asked') RETURNING event_id",
                    row["event_id"],
                )
                return confirmed is not None
        return False

    async def take_unreadable(self, connection: Connection, one: Unreadable) -> None:
        """Keep an event until its key comes."""
        await connection.execute(
            "INSERT INTO admin_unreadable"
            " (event_id, room_id, session_id, body, direct, received_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (event_id) DO NOTHING",
            one.event,
            one.session.room_id,
            one.session.session_id,
            one.body,
            int(one.direct),
            self.clock.now_ms(),
        )

    async def unreadable(
        self, sessions: Collection[SessionRef] | None = None
    ) -> AsyncIterator[Unreadable]:
        """Yield events that wait for these sessions, or for any, oldest first."""
        if sessions is None:
            async for one in self._all_unreadable():
                yield one
            return
        for session in sessions:
            found = await self.database.fetch(
                "SELECT * FROM admin_unreadable WHERE room_id = $1 AND session_id = $2"
                " ORDER BY received_ms, event_id",
                session.room_id,
                session.session_id,
            )
            for row in found:
                yield rows.unreadable(row)

    async def _all_unreadable(self) -> AsyncIterator[Unreadable]:
        """Go through all, page by page; which of them are dropped meanwhile does not matter."""
        after_ms, after = 0, ""
        while True:
            found = await self.database.fetch(
                "SELECT * FROM admin_unreadable WHERE received_ms > $1"
                " OR (received_ms = $2 AND event_id > $3)"
                " ORDER BY received_ms, event_id LIMIT $4",
                after_ms,
                after_ms,
                after,
                UNREADABLE_AT_ONCE,
            )
            for row in found:
                yield rows.unreadable(row)
            if len(found) < UNREADABLE_AT_ONCE:
                return
            after_ms, after = int(found[-1]["received_ms"]), found[-1]["event_id"]

    async def forget_unreadable(self, before_ms: int) -> None:
        """Forget what came so long ago that it would not be obeyed any more."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM admin_unreadable WHERE received_ms < $1", before_ms
            )

    async def no_longer_unreadable(self, connection: Connection, event: EventId) -> None:
        """Forget an event that was read or never will be."""
        await connection.execute("DELETE FROM admin_unreadable WHERE event_id = $1", event)

    # Working off.

    async def jobs(self, limit: int) -> list[Job]:
        """Return commands that are due, oldest first."""
        found = await self.database.fetch(
            "SELECT * FROM admin_command WHERE status = 'received' AND due_ms <= $1"
            " ORDER BY received_ms, event_id LIMIT $2",
            self.clock.now_ms(),
            limit,
        )
        return [rows.job(row) for row in found]

    async def job(self, event: EventId) -> Job | None:
        """Return one command."""
        row = await self.database.fetchrow(
            "SELECT * FROM admin_command WHERE event_id = $1", event
        )
        return None if row is None else rows.job(row)

    async def put_off(self, event: EventId, wait_ms: int) -> None:
        """Try a command again later."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_command SET attempts = attempts + 1, due_ms = $1"
                " WHERE event_id = $2",
                self.clock.now_ms() + wait_ms,
                event,
            )

    # Plans.

    async def ask(
        self,
        request: Request,
        plan: Plan,
        *,
        begin: Begin | None = None,
        second: bool = False,
    ) -> Asked | None:
        """Write a plan down before anybody is asked about it.

        With ``begin`` nobody is asked: it writes down, in the same transaction, that the plan is
        being carried out. With ``second`` another server admin has to approve it. A second time, after a crash, it replaces a plan that was not asked about yet; ``None``
        if it was, or was carried out: then there is nothing left to do.
        """
        asked = Asked(
            event=request.event,
            room=request.room,
            requester=request.sender,
            summary=plan.summary,
            fingerprint=plan.fingerprint,
            code=(None if second else plan.typed) or code_for(request.event, plan.fingerprint),
            question=None,
        )
        async with self.database.transaction() as connection:
            row = await connection.fetchrow(
                "INSERT INTO admin_plan (event_id, room_id, requester, summary, fingerprint,"
                " steps, code, typed, status, expires_ms, second)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
                " ON CONFLICT (event_id) DO UPDATE SET summary = excluded.summary,"
                " fingerprint = excluded.fingerprint, steps = excluded.steps,"
                " code = excluded.code, typed = excluded.typed, status = excluded.status,"
                " expires_ms = excluded.expires_ms WHERE admin_plan.status = 'asking'"
                " RETURNING event_id",
                asked.event,
                asked.room,
                asked.requester,
                kept(asked.summary),
                asked.fingerprint,
                # The plan is made anew when it is confirmed, and its fingerprint compared: its
                # steps, which may hold a token in an address, are kept sealed once it is begun.
                "[]",
                asked.code,
                int(plan.typed is not None),
                "asking" if begin is None else "executing",
                self.clock.now_ms() + (SECOND_LIFETIME_MS if second else LIFETIME_MS),
                int(second),
            )
            if begin is not None and row is not None:
                await _planned(connection, request.event)
                await begin(connection)
        return None if row is None else asked

    async def question_sent(self, event: EventId, question: EventId) -> None:
        """The question is out; a reaction may have overtaken our knowing its name."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_plan SET question_id = $1,"
                " expires_ms = CASE WHEN second = 1 THEN CAST($2 AS BIGINT)"
                " ELSE CAST($3 AS BIGINT) END, status = CASE"
                " WHEN early_reaction = $4 AND typed = 0 THEN 'confirmed' ELSE 'asked' END"
                " WHERE event_id = $5 AND status = 'asking'",
                question,
                self.clock.now_ms() + SECOND_LIFETIME_MS,
                self.clock.now_ms() + LIFETIME_MS,
                question,
                event,
            )
            await _planned(connection, event)

    async def confirmed(self) -> list[Asked]:
        """Return plans that were confirmed and not begun."""
        found = await self.database.fetch("SELECT * FROM admin_plan WHERE status = 'confirmed'")
        return [rows.asked(row) for row in found]

    async def is_now(self, event: EventId, status: str) -> bool:
        """Say whether a plan is “confirmed” or “executing” at this moment."""
        found = await self.database.fetchval(
            "SELECT status FROM admin_plan WHERE event_id = $1", event
        )
        return bool(found == status)

    async def begin(self, event: EventId, begin: Begin) -> bool:
        """Claim a confirmed plan and write down that it is being carried out, in one transaction.

        ``True`` for exactly one caller ever.
        """
        async with self.database.transaction() as connection:
            row = await connection.fetchrow(
                "UPDATE admin_plan SET status = 'executing'"
                " WHERE event_id = $1 AND status = 'confirmed' RETURNING event_id",
                event,
            )
            if row is not None:
                await begin(connection)
            return row is not None

    async def end(self, event: EventId) -> None:
        """A command is over, and its plan if it has one: forget its words, keep its name."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_plan SET status = 'done', steps = '[]' WHERE event_id = $1", event
            )
            await _finish(connection, event)

    async def overdue(self) -> list[Asked]:
        """Return plans whose question nobody answered in time."""
        found = await self.database.fetch(
            "SELECT * FROM admin_plan WHERE status = 'asked' AND expires_ms <= $1",
            self.clock.now_ms(),
        )
        return [rows.asked(row) for row in found]

    async def expire(self, event: EventId) -> bool:
        """Close a question; ``False`` if it was confirmed at the last moment."""
        async with self.database.transaction() as connection:
            row = await connection.fetchrow(
                "UPDATE admin_plan SET status = 'expired', steps = '[]'"
                " WHERE event_id = $1 AND status = 'asked' RETURNING event_id",
                event,
            )
            if row is not None:
                await _finish(connection, event)
            return row is not None

    async def executing(self) -> list[Asked]:
        """Return plans that are being carried out, or were when the process ended."""
        found = await self.database.fetch("SELECT * FROM admin_plan WHERE status = 'executing'")
        return [rows.asked(row) for row in found]

    async def counts(self) -> tuple[int, int]:
        """Return how many commands wait, and how many messages wait for a key."""
        waiting = await self.database.fetchval(
            "SELECT COUNT(*) FROM admin_command WHERE status = 'received'"
        )
        unreadable = await self.database.fetchval("SELECT COUNT(*) FROM admin_unreadable")
        return int(waiting), int(unreadable)

    async def forget_old(self) -> None:
        """Drop the names of commands and plans that were finished long ago."""
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM admin_plan WHERE status IN ('done', 'expired') AND expires_ms < $1",
                now_ms - KEPT_MS,
            )
            await connection.execute(
                "DELETE FROM admin_command WHERE status = 'done' AND received_ms < $1"
                " AND event_id NOT IN (SELECT event_id FROM admin_plan)",
                now_ms - KEPT_MS,
            )


async def _finish(connection: Connection, event: EventId) -> None:
    await connection.execute(
        "UPDATE admin_command SET status = 'done', text = '', formatted = NULL"
        " WHERE event_id = $1",
        event,
    )


async def _planned(connection: Connection, event: EventId) -> None:
    await connection.execute(
        "UPDATE admin_command SET status = 'planned' WHERE event_id = $1 AND status = 'received'",
        event,
    )
