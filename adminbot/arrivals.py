"""With which registration token new people came, and what that token does for them.

Steward's Synapse module knows it for sure. Without it the homeserver only counts the accounts that
each token made; then the rule is: all accounts that are new came with a token if exactly one
token was used, and as often as there are new accounts. In every other case nobody is joined
anywhere, and the server admins are told so: a guess would let people into rooms.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from adminbot.engine.actor import Actor
from adminbot.engine.answer import Answer, answer
from adminbot.engine.people import described
from adminbot.own.arrivals import (
    DONE,
    DUE,
    FAILED,
    NONE,
    OPEN,
    TOKEN,
    UNKNOWN,
    Arrival,
    arrival_of,
)
from adminbot.own.memory import Remember, Remembered
from adminbot.own.tokens import TokenNote, TokenNotes, digest_of
from adminbot.own_records import OwnRecords
from adminbot.server_acts import Admin, ServerActs
from common.clock import Clock
from common.database.pool import Connection, Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import NotFoundError, UnsupportedError
from common.homeserver.synapse.accounts import SetDisplayName, SetThreepids, SetUserType
from common.homeserver.synapse.registration_tokens import ListRegistrationTokens
from common.homeserver.synapse.registrations import CameWith
from common.homeserver.synapse.users import GetUser, ThirdPartyId
from common.i18n import n, t
from common.ids import EventId, UserId
from common.telemetry.log import Log

COUNTED_MS = 10_000
"""The homeserver makes an account first and then counts the token: by then it has."""
KEPT_MS = 90 * 86_400_000
MOST_ATTEMPTS = 5
_COUNTS = "token-counts"
_AT_ONCE = 100
_ALL = 2**31

log = Log("adminbot.arrivals")

Counts = Mapping[str, int]


class Tell(Protocol):
    """What is needed of ``adminbot.telling.Telling``."""

    async def to_person(self, user: UserId, said: Answer, *, key: str) -> EventId:
        """Say something to one person alone, once for each key."""
        ...

    async def to_admins(self, said: Answer, *, key: str) -> None:
        """Tell the server admins, each once for each key."""
        ...


class People(Protocol):
    """What is needed of ``adminbot.facts.Facts``."""

    async def actor(self, user: UserId) -> Actor:
        """Return who somebody is at this moment."""
        ...


@dataclass(frozen=True)
class TokenArrivals:
    """The part of the newcomers' standing work that is about tokens."""

    database: Database
    clock: Clock
    admin: Admin
    records: OwnRecords
    acts: ServerActs
    telling: Tell
    people: People

    async def counts(self) -> Counts | None:
        """Return how many accounts each token made, ``None`` where the module tells more.

        It has to be asked before new accounts are looked for: what was counted by then belongs to
        accounts that are seen then.
        """
        try:
            await self.admin.read(CameWith())
        except (UnsupportedError, NotFoundError):
            pass  # no module, or nothing leads to it
        else:
            return None
        try:
            found = await self.admin.read(ListRegistrationTokens())
        except UnsupportedError:
            return {}  # under MAS the tokens are elsewhere
        return {digest_of(one.token): one.completed for one in found if one.completed}

    async def settle(self, counts: Counts | None) -> None:
        """Find out with which token who is new came, and do what it is for."""
        if counts is None:
            await self._as_the_module_says(await self._open(_AT_ONCE))
        else:
            # All of them: whoever is left out of the count would have come with no token.
            await self._by_counts(await self._open(_ALL), counts)
        await self._do_what_is_due()
        await self._forget()

    async def _as_the_module_says(self, waiting: Sequence[Arrival]) -> None:
        for each in waiting:
            digest = await self.admin.read(CameWith(each.user))
            if digest is not None:
                await self._came([each], TOKEN, digest)
            elif self.clock.now_ms() - each.seen_ms >= COUNTED_MS:
                await self._came([each], NONE)

    async def _by_counts(self, waiting: Sequence[Arrival], counts: Counts) -> None:
        kept = await self.records.read(Remembered(_COUNTS))
        if waiting:
            if self.clock.now_ms() - max(each.seen_ms for each in waiting) < COUNTED_MS:
                return
            rises = rises_of(None if kept is None else json.loads(kept), counts)
            came, digest = judged(rises, len(waiting))
            if came == UNKNOWN:
                await self._tell_unknown(waiting, rises)
            await self._came(waiting, came, digest)
        value = json.dumps(dict(counts), sort_keys=True)
        if value != kept:
            async with self.database.transaction() as connection:
                await self.records.apply(connection, Remember(_COUNTS, value))

    async def _tell_unknown(self, waiting: Sequence[Arrival], rises: Counts | None) -> None:
        notes = await self.records.read(TokenNotes())
        used = [notes[digest] for digest in rises or {} if digest in notes]
        if not any(note.rooms or note.for_user for note in used):
            return
        users = sorted(each.user for each in waiting)
        said = n(
            "{count} new account was made while tokens were used, and I cannot tell with which of "
            "them it came: {users}. It was joined to none of these tokens' rooms; “user join” does "
            "that. With my Synapse module I could tell.",
            "{count} new accounts were made while tokens were used, and I cannot tell with which of "
            "them each came: {users}. They were joined to none of these tokens' rooms; “user join” "
            "does that. With my Synapse module I could tell.",
            len(users),
            users=described(users),
        )
        key = f"steward-came-{digest_of(' '.join(users))[:32]}"
        await self.telling.to_admins(answer(said), key=key)

    async def _came(
        self, arrivals: Sequence[Arrival], came: str, digest: str | None = None
    ) -> None:
        async with self.database.transaction() as connection:
            for each in arrivals:
                await connection.execute(
                    "UPDATE admin_arrival SET came = $1, digest = $2, state = $3"
                    " WHERE user_id = $4",
                    came,
                    digest,
                    DUE if came == TOKEN else DONE,
                    each.user,
                )

    async def _do_what_is_due(self) -> None:
        due = await self.database.fetch(
            "SELECT * FROM admin_arrival WHERE state = 'due' AND came = 'token'"
            " AND NOT EXISTS (SELECT 1 FROM admin_account a WHERE a.user_id ="
            " admin_arrival.user_id AND a.welcome = 'approval') ORDER BY seen_ms LIMIT 100"
        )
        if not due:
            return
        notes = await self.records.read(TokenNotes())
        for each in map(arrival_of, due):
            note = notes.get(each.digest or "")
            if note is None:
                await self._state(each, DONE)  # not made through us, or long ago
                continue
            await self._receive(each, note)

    async def _receive(self, arrival: Arrival, note: TokenNote) -> None:
        """Do for somebody what their token is for; what fails is tried again a few times.

        It is done in the name of the token's maker, who has to be a server admin still.
        """
        if (note.rooms or note.for_user is not None) and not await self._may(note.creator):
            key = f"steward-arrival-{digest_of(arrival.user)[:32]}"
            await self.telling.to_admins(answer(_not_lent(arrival.user, note)), key=key)
            await self._state(arrival, FAILED)
            return
        try:
            await self._prepare(arrival.user, note)
            problems = await self._join(arrival.user, note)
        except (TransientError, StartOverError):
            raise
        except StewardError as error:
            problems = [str(error)]
        last = arrival.attempts + 1 >= MOST_ATTEMPTS
        if problems and not last:
            await self._state(arrival, DUE)
            return
        said = _outcome(arrival.user, note, problems)
        if said is not None:
            key = f"steward-arrival-{digest_of(arrival.user)[:32]}"
            try:
                await self.telling.to_person(note.creator, answer(said), key=key)
            except (TransientError, StartOverError):
                raise
            except StewardError as error:
                log.warning("who made a token could not be told", user=note.creator, reason=error)
        await self._state(arrival, FAILED if problems else DONE)

    async def _may(self, creator: UserId) -> bool:
        who = await self.people.actor(creator)
        return who.server_admin and who.closed is None

    async def _prepare(self, user: UserId, note: TokenNote) -> None:
        if note.for_user != user:
            return
        if name := note.profile.get("displayname"):
            await self.admin.change(SetDisplayName(user, name))
        if kind := note.profile.get("type"):
            await self.admin.change(SetUserType(user, kind))
        if email := note.profile.get("email"):
            there = (await self.admin.read(GetUser(user))).threepids
            wanted = ThirdPartyId("email", email)
            if wanted not in there:
                await self.admin.change(SetThreepids(user, (*there, wanted)))

    async def _join(self, user: UserId, note: TokenNote) -> list[str]:
        problems: list[str] = []
        for room in note.rooms:
            try:
                await self.acts.ensure_joined(user, room)
            except (TransientError, StartOverError):
                raise
            except StewardError as error:
                problems.append(f"{room}: {error}")  # the other rooms all the same
        return problems

    async def _state(self, arrival: Arrival, state: str) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE admin_arrival SET state = $1, attempts = $2 WHERE user_id = $3",
                state,
                arrival.attempts + 1,
                arrival.user,
            )

    async def _open(self, most: int) -> list[Arrival]:
        rows = await self.database.fetch(
            "SELECT * FROM admin_arrival WHERE came = $1 ORDER BY seen_ms LIMIT $2", OPEN, most
        )
        return [arrival_of(row) for row in rows]

    async def _forget(self) -> None:
        before_ms = self.clock.now_ms() - KEPT_MS
        old = await self.database.fetchval(
            "SELECT user_id FROM admin_arrival WHERE seen_ms < $1 LIMIT 1", before_ms
        )
        if old is not None:
            async with self.database.transaction() as connection:
                await connection.execute(
                    "DELETE FROM admin_arrival WHERE seen_ms < $1 AND told = 1", before_ms
                )


def rises_of(before: Counts | None, now: Counts) -> Counts | None:
    """Return how often each token was used in between; ``None`` if nothing is known of before."""
    if before is None:
        return None
    rises = {digest: count - before.get(digest, 0) for digest, count in now.items()}
    return {digest: rise for digest, rise in rises.items() if rise > 0}


def judged(rises: Counts | None, newcomers: int) -> tuple[str, str | None]:
    """Return what is known of the token that some new accounts came with, and which it was."""
    if rises is None:
        return UNKNOWN, None
    if not rises:
        return NONE, None
    if len(rises) == 1 and sum(rises.values()) == newcomers:
        return TOKEN, next(iter(rises))
    return UNKNOWN, None


async def take_note(
    connection: Connection, users: Sequence[tuple[UserId, int]], now_ms: int
) -> None:
    """Write new accounts of people down; with which token they came is found out afterwards."""
    await connection.executemany(
        "INSERT INTO admin_arrival (user_id, created_ms, seen_ms, came, state)"
        " VALUES ($1, $2, $3, 'open', 'done') ON CONFLICT (user_id) DO NOTHING",
        [(user, created_ms, now_ms) for user, created_ms in users],
    )


def _not_lent(user: UserId, note: TokenNote) -> str:
    return t(
        "{user} came with a registration token of {creator}, who is no server admin any more: so "
        "nothing was done of what that token is for. “user join” lets somebody into rooms, “token "
        "list” shows whose tokens there are.",
        user=user,
        creator=note.creator,
    )


def _outcome(user: UserId, note: TokenNote, problems: Sequence[str]) -> str | None:
    """Return what the maker of a token is told of who came with it, if anything."""
    if problems:
        return t(
            "{user} came with your registration token, but not all of it could be done: "
            "{problems}.",
            user=user,
            problems="; ".join(problems),
        )
    if note.for_user is None:
        return None
    if note.for_user == user:
        return t("{user} has made the account that you prepared.", user=user)
    return t(
        "{user} made an account with the link that you prepared for {wanted}; nothing was done "
        "for it. “user deactivate” closes it.",
        user=user,
        wanted=note.for_user,
    )
