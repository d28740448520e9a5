"""Notices new accounts within seconds, learns what each is, and welcomes people.

People are joined to the default rooms and told what there is to tell, once. The homeserver says
nothing when somebody registers, so its newest accounts are looked at every few seconds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from adminbot.arrivals import TokenArrivals, take_note
from adminbot.own.accounts import BOT, BRIDGED, GUEST, PERSON
from adminbot.own.notices import Motd
from adminbot.own.server_rooms import DefaultRooms
from adminbot.own_records import OwnRecords
from adminbot.server_acts import ServerActs
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.users import GetUser, ListUsers, UserSummary, all_users
from common.ids import RoomId, UserId
from common.telemetry.log import Log

LOOK_SECONDS = 3.0
LONGEST_WAIT_SECONDS = 8.0
# A list that takes the homeserver long is asked for less often.
SHARE_OF_TIME = 0.05
NEWEST = 20
PAGE = 500
AT_ONCE = 4
MOST_ATTEMPTS = 5

log = Log("adminbot.newcomers")

Row = tuple[UserId, int, str, str]


@dataclass(frozen=True)
class Newcomers:
    """The standing work."""

    database: Database
    clock: Clock
    admin: AdminReader
    records: OwnRecords
    acts: ServerActs
    arrivals: TokenArrivals
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Look and welcome until cancelled."""
        while True:
            begun = self.clock.monotonic()
            try:
                counts = await self.arrivals.counts()
                await self.look()
                looked = self.clock.monotonic() - begun
                await self.take_in_approved()
                await self.arrivals.settle(counts)
                await self.welcome_due()
            except StartOverError:
                raise
            except StewardError as error:
                log.warning("new accounts could not be looked for", reason=error)
                looked = LONGEST_WAIT_SECONDS
            wait_seconds = max(LOOK_SECONDS, looked / SHARE_OF_TIME)
            await self.sleep(min(wait_seconds, LONGEST_WAIT_SECONDS))

    async def look(self) -> int:
        """Take in accounts that are not known yet, newest first; return how many there were."""
        since_ms, complete = await self._watch()
        request = ListUsers(
            order_by="creation_ts", direction="b", limit=NEWEST if complete else PAGE
        )
        found = 0
        while True:
            page = await self.admin.read(request)
            unknown = await self._unknown(page.users)
            found += len(unknown)
            await self._take_in(unknown, since_ms)
            if page.next_token is None or not page.users or (complete and not unknown):
                break
            request = replace(request, start=request.start + len(page.users), limit=PAGE)
        if not complete:
            async with self.database.transaction() as connection:
                await connection.execute("UPDATE admin_watch SET complete = 1")
        return found

    async def take_in_approved(self) -> None:
        """Let who was approved meanwhile be welcomed; until then they are joined nowhere."""
        rows = await self.database.fetch(
            "SELECT user_id FROM admin_account WHERE welcome = 'approval'"
        )
        if not rows:
            return
        unapproved = {
            one.name: one.deactivated
            async for one in all_users(self.admin, ListUsers(unapproved=True, limit=PAGE))
            if one.approved is False
        }
        decided = [
            ("old" if row["user_id"] in unapproved else "due", row["user_id"])
            for row in rows
            if unapproved.get(row["user_id"], True)  # closed, or not waiting any more
        ]
        async with self.database.transaction() as connection:
            await connection.executemany(
                "UPDATE admin_account SET welcome = $1 WHERE user_id = $2", decided
            )

    async def welcome_due(self) -> None:
        """Give every new person what is due; what fails is tried again a few times."""
        rooms, text = await self.records.read(DefaultRooms()), await self.records.read(Motd())
        if not rooms and text is None:
            async with self.database.transaction() as connection:
                await connection.execute(
                    "UPDATE admin_account SET welcome = 'done' WHERE welcome = 'due'"
                )
            return
        rows = await self.database.fetch(
            "SELECT user_id, attempts FROM admin_account WHERE welcome = 'due'"
            " ORDER BY created_ms LIMIT 100"
        )
        for row in rows:
            user, attempts = UserId(row["user_id"]), int(row["attempts"]) + 1
            try:
                await self._welcome(user, rooms, text)
            except TransientError:
                raise
            except StewardError as error:
                over = attempts >= MOST_ATTEMPTS
                await self._mark(user, "failed" if over else "due", attempts, str(error))
                if over:
                    log.error("a new account could not be welcomed", user=user, reason=error)
            else:
                await self._mark(user, "done", attempts, "")

    async def _welcome(self, user: UserId, rooms: Sequence[RoomId], text: str | None) -> None:
        problems: list[str] = []
        for room in rooms:
            try:
                await self.acts.ensure_joined(user, room)
            except TransientError:
                raise
            except StewardError as error:
                problems.append(f"{room}: {error}")  # the other rooms all the same
        if text is not None:
            await self.acts.tell_as_server(user, text, name="motd")
        if problems:
            raise StewardError("; ".join(problems))

    async def _watch(self) -> tuple[int, bool]:
        async with self.database.transaction() as connection:
            row = await connection.fetchrow(
                "INSERT INTO admin_watch (id, since_ms, complete, visits_ms) VALUES (1, $1, 0, 0)"
                " ON CONFLICT (id) DO UPDATE SET complete = admin_watch.complete"
                " RETURNING since_ms, complete",
                self.clock.now_ms(),
            )
        assert row is not None  # noqa: S101  # the statement returns one either way
        return int(row["since_ms"]), bool(row["complete"])

    async def _unknown(self, users: Sequence[UserSummary]) -> list[UserSummary]:
        if not users:
            return []
        places = ", ".join(f"${number}" for number in range(1, len(users) + 1))
        rows = await self.database.fetch(
            f"SELECT user_id FROM admin_account WHERE user_id IN ({places})",  # noqa: S608  # numbers
            *(user.name for user in users),
        )
        known = {row["user_id"] for row in rows}
        return [user for user in users if user.name not in known]

    async def _take_in(self, users: Sequence[UserSummary], since_ms: int) -> None:
        if not users:
            return
        kinds = await kinds_of(self.admin, users)
        rows = [_row(user, kinds[user.name], since_ms) for user in users if user.name in kinds]
        async with self.database.transaction() as connection:
            await connection.executemany(
                "INSERT INTO admin_account (user_id, created_ms, kind, welcome)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (user_id) DO NOTHING",
                rows,
            )
            came = [
                (user, created_ms) for user, created_ms, _, welcome in rows if welcome != "old"
            ]
            await take_note(connection, came, self.clock.now_ms())

    async def _mark(self, user: UserId, welcome: str, attempts: int, detail: str) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_account SET welcome = $1, attempts = $2, detail = $3"
                " WHERE user_id = $4",
                welcome,
                attempts,
                detail[:500],
                user,
            )


async def kinds_of(admin: AdminReader, users: Sequence[UserSummary]) -> Mapping[UserId, str]:
    """Return what each account is; the list does not say to whom one belongs, each account does.

    Raises:
        TransientError: the homeserver is away.
    """
    kinds: dict[UserId, str] = {}
    trouble: list[TransientError] = []
    waiting = list(users)

    async def work() -> None:
        while waiting and not trouble:
            user = waiting.pop()
            try:
                kinds[user.name] = await _kind(admin, user)
            except NotFoundError:
                continue
            except TransientError as error:
                trouble.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    if trouble:
        raise trouble[0]
    return kinds


async def _kind(admin: AdminReader, user: UserSummary) -> str:
    if user.is_guest:
        return GUEST
    if user.user_type is not None:
        return BOT
    return BRIDGED if (await admin.read(GetUser(user.name))).appservice_id is not None else PERSON


def _row(user: UserSummary, kind: str, since_ms: int) -> Row:
    created_ms = user.creation_ts or 0
    new = kind == PERSON and created_ms >= since_ms and not user.deactivated
    if not new:
        return user.name, created_ms, kind, "old"
    return user.name, created_ms, kind, "approval" if user.approved is False else "due"
