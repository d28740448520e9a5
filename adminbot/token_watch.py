"""Telling people what becomes of the registration tokens they made: soon over, or used up.

The promise: each is said once, within a minute of being so, to who made the token; the token
itself is not repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from adminbot.engine.answer import Answer, Mono, ago, answer, moment_of, written
from adminbot.own.tokens import TokenNote, TokenNotes, digest_of
from adminbot.own_records import OwnRecords
from common.clock import Clock
from common.database.pool import Database
from common.errors import StartOverError, StewardError, TransientError
from common.homeserver.errors import UnsupportedError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.registration_tokens import (
    ListRegistrationTokens,
    RegistrationToken,
    masked,
)
from common.i18n import t
from common.ids import EventId, UserId
from common.telemetry.log import Log

CHECK_SECONDS = 20.0
BEFORE = timedelta(days=1)
KEPT = timedelta(days=1)
"""How long a token that is not there is remembered: it may just be being made."""

log = Log("adminbot.tokens")


class Tell(Protocol):
    """What is needed of ``adminbot.telling.Telling``."""

    async def to_person(self, user: UserId, said: Answer, *, key: str) -> EventId:
        """Say something to one person alone, once for each key."""
        ...


@dataclass(frozen=True)
class TokenWatch:
    """The standing work about the table ``admin_token``."""

    database: Database
    records: OwnRecords
    admin: AdminReader
    telling: Tell
    clock: Clock
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Look, and tell, until cancelled."""
        while True:
            try:
                await self.look()
            except StartOverError:
                raise
            except UnsupportedError:
                pass  # under MAS the tokens are elsewhere
            except (TransientError, StewardError) as error:
                log.warning("registration tokens could not be looked at", reason=error)
            except Exception as error:  # noqa: BLE001  # one bad row must not end both bots
                log.crash("looking at registration tokens failed", error)
            await self.sleep(CHECK_SECONDS)

    async def look(self) -> None:
        """Look once; ask the homeserver only if there is somebody to be told."""
        notes = await self.records.read(TokenNotes())
        waiting = {
            digest: note
            for digest, note in notes.items()
            if not (note.told_expiry and note.told_used)
        }
        if not waiting:
            return
        there = {
            digest_of(one.token): one for one in await self.admin.read(ListRegistrationTokens())
        }
        for digest, note in waiting.items():
            token = there.get(digest)
            if token is None:
                await self._forget(digest, note)
            else:
                await self._consider(digest, note, token)

    async def _consider(self, digest: str, note: TokenNote, token: RegistrationToken) -> None:
        now_ms = self.clock.now_ms()
        if _used_up(token) and note.uses is None and not note.told_used:
            said: str = t(
                "The registration token {token} is used up: {count} accounts were made with it.",
                token=_named(token, note),
                count=token.completed,
            )
            await self._tell(note, said, f"token-used-{digest}-{token.completed}")
            await self._mark(digest, "told_used")
        if note.told_expiry or token.expiry_time is None or not token.valid_at(now_ms):
            return
        before_ms = int(BEFORE.total_seconds() * 1000)
        if token.expiry_time - now_ms > before_ms:
            return
        # Who made it for less than a day knows.
        if token.expiry_time - note.made_ms > before_ms:
            said = _soon(token, note, now_ms)
            await self._tell(note, said, f"token-expiry-{digest}-{token.expiry_time}")
        await self._mark(digest, "told_expiry")

    async def _tell(self, note: TokenNote, sentence: str, key: str) -> None:
        more = t("“token update” gives it more, “token create” makes another one.")
        try:
            await self.telling.to_person(note.creator, answer(sentence, more), key=key)
        except (TransientError, StartOverError):
            raise
        except StewardError as error:
            log.warning("who made a token could not be told", user=note.creator, reason=error)

    async def _mark(self, digest: str, column: str) -> None:
        assert column in {"told_used", "told_expiry"}  # noqa: S101  # our own two words
        async with self.database.transaction() as connection:
            await connection.execute(
                f"UPDATE admin_token SET {column} = 1 WHERE digest = $1",  # noqa: S608  # see above
                digest,
            )

    async def _forget(self, digest: str, note: TokenNote) -> None:
        if self.clock.now_ms() - note.made_ms < KEPT.total_seconds() * 1000:
            return
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM admin_token WHERE digest = $1", digest)


def _used_up(token: RegistrationToken) -> bool:
    return token.uses_allowed is not None and 0 < token.uses_allowed <= token.completed


def _named(token: RegistrationToken, note: TokenNote) -> str:
    if note.note:
        return t("{token} for {note}", token=Mono(masked(token.token)), note=Mono(note.note))
    return t("{token}", token=Mono(masked(token.token)))


def _soon(token: RegistrationToken, note: TokenNote, now_ms: int) -> str:
    expiry_ms = token.expiry_time or 0
    moment = moment_of(expiry_ms)
    return t(
        "The registration token {token} expires {when}, on {moment}; {count} accounts were made "
        "with it.",
        token=_named(token, note),
        when=ago(timedelta(milliseconds=now_ms - expiry_ms)),
        moment="?" if moment is None else written(moment),
        count=token.completed,
    )
