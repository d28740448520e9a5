"""Carrying out the copy of what the server keeps about one person.

The promise: it leaves only encrypted, into one person's direct chat; what was collected until then
is sealed in the database, and gone when it was handed over or after a day.
"""

import asyncio
import io
import json
import re
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any, ClassVar

from adminbot.engine.answer import Answer, File, moment_of, say
from adminbot.engine.people import localpart
from adminbot.execution import Perform
from adminbot.own.export import PARTS, CollectPart, HandOverExport
from adminbot.telling import Telling
from common.age import SUFFIX, lock_for, lock_with_passphrase
from common.clock import Clock
from common.crypto.sealing import Sealer
from common.database.pool import Database
from common.errors import StartOverError, StewardError, UserError
from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader, HttpGet, Json, Permission, ReadRequest
from common.homeserver.synapse.media import ListUserMedia
from common.homeserver.synapse.user_lookup import (
    GetAccountData,
    GetExperimentalFeatures,
    GetMemberships,
    ListPushers,
    Whois,
)
from common.homeserver.synapse.user_rights import GetRateLimit
from common.homeserver.synapse.users import GetUser, ListUserDevices
from common.i18n import t
from common.ids import UserId
from common.telemetry.log import Log

MOST_BYTES = 64 * 2**20
MOST_MEDIA = 50_000
KEPT_MS = 86_400_000
FORGET_SECONDS = 3_600.0
_PAGE = 500

log = Log("adminbot.exporting")

_ASKED: Mapping[str, Callable[[UserId], ReadRequest[Any]]] = {
    "account": GetUser,
    "sessions": ListUserDevices,
    "connections": Whois,
    "rooms": GetMemberships,
    "account-data": GetAccountData,
    "notifications": ListPushers,
    "rate-limit": GetRateLimit,
    "features": GetExperimentalFeatures,
}
_OWN = {
    "language": "SELECT language FROM admin_person WHERE user_id = $1",
    "days_seen": "SELECT month, days FROM admin_seen WHERE user_id = $1 ORDER BY month",
    "seen_from": (
        "SELECT address, device_id, device_name, user_agent, last_ms FROM admin_seen_from"
        " WHERE user_id = $1 ORDER BY last_ms DESC"
    ),
    "account": "SELECT created_ms, kind FROM admin_account WHERE user_id = $1",
    "came_with_token": "SELECT created_ms, came FROM admin_arrival WHERE user_id = $1",
    "tokens_made": "SELECT note, made_ms FROM admin_token WHERE creator = $1 ORDER BY made_ms",
    "token_quota": "SELECT per_month, granted_ms FROM admin_token_grant WHERE user_id = $1",
    "commands": (
        "SELECT at_ms, room_id, command, phase, detail FROM admin_action WHERE sender = $1"
        " ORDER BY at_ms DESC LIMIT 20000"
    ),
}


@dataclass(frozen=True)
class _AsItCame:
    """Another request, whose answer is kept whole: fields that we know nothing of belong to it."""

    permission: ClassVar = Permission.VIEW

    request: ReadRequest[Any]

    def to_http(self) -> HttpGet:
        """Return the call."""
        return self.request.to_http()

    def read_response(self, body: Json) -> Json:
        """Return the answer."""
        return body


@dataclass(frozen=True)
class Exporting:
    """What carries these steps out."""

    admin: AdminReader
    database: Database
    sealer: Sealer
    telling: Telling
    clock: Clock
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """A passphrase is made slow to guess by as much memory as a small machine can spare."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Forget what was cancelled, or never got to its end, until cancelled itself."""
        while True:
            try:
                await self.forget()
            except StartOverError:
                raise
            except StewardError as error:
                log.warning("parts of old copies could not be forgotten", reason=error)
            await self.sleep(FORGET_SECONDS)

    def performers(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {CollectPart: self.collect, HandOverExport: self.hand_over}

    async def forget(self) -> None:
        """Delete the parts that nobody waits for any more."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM admin_export_part WHERE made_ms < $1",
                self.clock.now_ms() - KEPT_MS,
            )

    async def collect(self, step: CollectPart, key: str) -> None:
        """Read one part and keep it."""
        del key
        text = json.dumps(await self._read(step), ensure_ascii=False, indent=2, default=str)
        body = self.sealer.seal(text.encode("utf-8", "replace"), name=_name(step.export))
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO admin_export_part (export, part, body, made_ms)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (export, part) DO UPDATE SET"
                " body = excluded.body, made_ms = excluded.made_ms",
                step.export,
                step.part,
                body,
                now_ms,
            )

    async def hand_over(self, step: HandOverExport, key: str) -> None:
        """Encrypt and send it, then forget it."""
        parts = await self._parts(step.export)
        async with self.one_at_a_time:
            body = await asyncio.to_thread(_locked, step, parts)
        moment = moment_of(step.at_ms)
        day = "" if moment is None else f"-{moment.astimezone(UTC):%Y-%m-%d}"
        name = re.sub(r"[^a-z0-9._-]", "_", localpart(step.user))[:60]
        file = File(f"export-{name}{day}.zip{SUFFIX}", "application/octet-stream", body)
        said = Answer((say(t("What the server keeps about {user}:", user=step.user)),), (file,))
        await self.telling.to_person(step.to, said, key=key)
        async with self.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM admin_export_part WHERE export = $1", step.export
            )

    async def _parts(self, export: str) -> dict[str, bytes]:
        rows = await self.database.fetch(
            "SELECT part, body FROM admin_export_part WHERE export = $1 ORDER BY part", export
        )
        parts = {
            str(row["part"]): self.sealer.open(bytes(row["body"]), name=_name(export))
            for row in rows
        }
        if set(parts) != set(PARTS):
            raise UserError(t("What was read is not there any more; ask again."))
        if sum(map(len, parts.values())) > MOST_BYTES:
            raise UserError(t("It is too much to be sent as one file."))
        return parts

    async def _read(self, step: CollectPart) -> object:
        if step.part == "steward":
            return {name: await self._own(sql, step.user) for name, sql in _OWN.items()}
        try:
            if step.part == "media":
                return await self._media(step.user)
            return await self.admin.read(_AsItCame(_ASKED[step.part](step.user)))
        except RefusedError as error:
            # Not everything is there on every homeserver, nor where accounts are kept elsewhere.
            return {"not told by the homeserver": error.errcode}

    async def _own(self, sql: str, user: UserId) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.database.fetch(sql, user)]

    async def _media(self, user: UserId) -> list[Any]:
        request = ListUserMedia(user=user, limit=_PAGE)
        found: list[Any] = []
        while len(found) < MOST_MEDIA:
            page = (await self.admin.read(_AsItCame(request))).get("media", [])
            found += page
            if len(page) < _PAGE:
                break
            request = replace(request, start=request.start + len(page))
        return found


def _locked(step: HandOverExport, parts: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in parts.items():
            archive.writestr(f"{name}.json", body)
    if step.recipient is not None:
        return lock_for(out.getvalue(), step.recipient)
    assert step.passphrase is not None  # noqa: S101  # the command gives one or the other
    return lock_with_passphrase(out.getvalue(), step.passphrase)


def _name(export: str) -> str:
    return f"admin_export {export}"
