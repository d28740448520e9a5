"""Telling server admins of new accounts, each once and within a minute.

Who asked for it is told in the admin room or the direct chat where they did; whether they are a
server admin still is asked each time.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from adminbot.engine.answer import (
    Answer,
    Bullets,
    Button,
    Mono,
    Pill,
    Spans,
    answer,
    facts,
    say,
)
from adminbot.engine.line import quote
from adminbot.engine.text import joined
from adminbot.own.arrivals import (
    NONE,
    TOKEN,
    Arrival,
    TokenWatchers,
    Watcher,
    Watchers,
    arrival_of,
)
from adminbot.own.tokens import TokenNote, TokenNotes
from adminbot.own_records import OwnRecords
from adminbot.telling import Telling
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.users import GetUser, UserDetails
from common.i18n import Msg, n, t
from common.ids import UserId
from common.telemetry.log import Log

EVERY_SECONDS = 5.0
SINGLY = 5
"""So many are told one by one; of more at once there is one list."""
MOST_NAMED = 30
_AT_ONCE = 200

log = Log("adminbot.registrations")


@dataclass(frozen=True)
class RegistrationWatch:
    """The standing work about ``admin_arrival.told``."""

    database: Database
    records: OwnRecords
    admin: AdminReader
    telling: Telling
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            try:
                await self.look()
            except StartOverError:
                raise
            except StewardError as error:
                log.warning("new accounts could not be told of", reason=error)
            await self.sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """Tell of whom nobody was told yet, as soon as it is known how they came."""
        rows = await self.database.fetch(
            "SELECT * FROM admin_arrival WHERE told = 0 AND came <> 'open'"
            " ORDER BY seen_ms, user_id LIMIT $1",
            _AT_ONCE,
        )
        if not rows:
            return
        new = [arrival_of(row) for row in rows]
        watchers = await self.records.read(Watchers())
        if watchers:
            for key, said in await self._cards(new):
                for watcher in _each_place_once(watchers):
                    await self._tell(watcher, said, key)
        for user, theirs in (await self._by_their_tokens(new)).items():
            # Under the same key: who is told of all is told of theirs once.
            for key, said in await self._cards(theirs):
                await self._tell(Watcher(None, user), said, key)
        async with self.database.transaction() as connection:
            await connection.executemany(
                "UPDATE admin_arrival SET told = 1 WHERE user_id = $1",
                [(each.user,) for each in new],
            )

    async def _by_their_tokens(self, new: Sequence[Arrival]) -> Mapping[UserId, list[Arrival]]:
        """Return who is told of which of them because of the token they came with."""
        watched = await self.records.read(TokenWatchers())
        found: dict[UserId, list[Arrival]] = {}
        for each in new:
            for user in watched.get(each.digest or "", ()):
                found.setdefault(user, []).append(each)
        return found

    async def _cards(self, new: Sequence[Arrival]) -> list[tuple[str, Answer]]:
        notes = await self.records.read(TokenNotes())
        if len(new) > SINGLY:
            return [(_key(*new), _list(new))]
        found = []
        for each in new:
            try:
                account = await self.admin.read(GetUser(each.user))
            except NotFoundError:
                continue
            found.append((_key(each), _card(each, account, notes.get(each.digest or ""))))
        return found

    async def _tell(self, watcher: Watcher, said: Answer, key: str) -> None:
        try:
            if watcher.room is not None:
                if await self.telling.is_for_admins(watcher.room):
                    language = await self.telling.language_of(None)
                    await self.telling.to_room(
                        watcher.room, said, key=f"{key}-{watcher.room}", language=language
                    )
                return
            who = await self.telling.facts.actor(watcher.user)
            if who.server_admin and who.closed is None:
                await self.telling.to_person(watcher.user, said, key=f"{key}-{watcher.user}")
        except (TransientError, StartOverError):
            raise
        except StewardError as error:
            # One room that takes no message must not keep the others from knowing.
            log.error("a new account could not be told of", reason=error)


def how_they_came(arrival: Arrival, note: TokenNote | None) -> Msg:
    """Return in words with which registration token somebody came."""
    if arrival.came == NONE:
        return t("without a registration token")
    if arrival.came != TOKEN:
        return t("not known")
    if note is None:
        return t("with a registration token that was not made through me")
    if note.note:
        return t("with a token of {user} for {note}", user=note.creator, note=Mono(note.note))
    return t("with a token of {user}", user=note.creator)


def _each_place_once(watchers: Sequence[Watcher]) -> list[Watcher]:
    places: dict[str, Watcher] = {}
    for each in watchers:
        places.setdefault(each.room or each.user, each)
    return list(places.values())


def _card(arrival: Arrival, account: UserDetails, note: TokenNote | None) -> Answer:
    said = answer(
        say(t("New account: {user}", user=Pill(arrival.user))),
        facts(
            [
                (t("Name"), Mono(account.displayname) if account.displayname else None),
                (t("Came"), how_they_came(arrival, note)),
                (t("State"), t("waits for approval") if account.approved is False else None),
            ]
        ),
    )
    if account.approved is not False or account.deactivated:
        return said
    buttons = (
        Button("✅", t("approve"), f"user approve {quote(arrival.user)}"),
        Button("❌", t("deny"), f"user deny {quote(arrival.user)}"),
    )
    legend = say(joined(joined((each.key, each.label), " ") for each in buttons))
    return Answer(said.blocks, buttons=buttons).followed_by(legend)


def _list(new: Sequence[Arrival]) -> Answer:
    named: list[Spans] = [(Pill(each.user),) for each in new[:MOST_NAMED]]
    if len(new) > len(named):
        more = len(new) - len(named)
        named.append((n("… and {count} more", "… and {count} more", more),))
    return answer(
        n("{count} new account.", "{count} new accounts.", len(new)),
        Bullets(tuple(named)),
        t("“registrations list” shows how they came, and who waits for approval."),
    )


def _key(*new: Arrival) -> str:
    names = " ".join(each.user for each in new)
    return f"steward-new-{hashlib.sha256(names.encode()).hexdigest()[:32]}"
