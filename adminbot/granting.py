"""Making registration tokens for people who were granted some, never more than that.

The promise: the quota is counted in the transaction that uses it, so that two requests at once do
not both get the last one; one whose token could not be made is not counted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from adminbot.execution import Perform
from adminbot.own.grants import MakeGrantedToken
from adminbot.own.memory import MAINTENANCE, Remembered
from adminbot.own.tokens import RememberToken, digest_of
from adminbot.own_records import OwnRecords
from adminbot.server_acts import Admin
from common.errors import UserError
from common.homeserver.errors import NotFoundError, RefusedError
from common.homeserver.synapse.registration_tokens import (
    CreateRegistrationToken,
    GetRegistrationToken,
)
from common.i18n import t


@dataclass(frozen=True)
class Granting:
    """What carries it out."""

    admin: Admin
    records: OwnRecords

    def performers(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {MakeGrantedToken: self.make}

    async def make(self, step: MakeGrantedToken, key: str) -> None:
        """Count it, then make the token; a second time makes no second one."""
        del key
        maintenance = await self.records.read(Remembered(MAINTENANCE))
        if maintenance and json.loads(maintenance).get("lock"):
            raise UserError(
                t("Sign-ups are closed during maintenance; ask again when it is over.")
            )
        await self._count(step)
        token = step.token.reveal()
        try:
            await self.admin.read(GetRegistrationToken(token))
        except NotFoundError:
            pass
        else:
            return
        try:
            await self.admin.change(
                CreateRegistrationToken(
                    token=step.token, uses_allowed=1, expires_ms=step.expires_ms
                )
            )
        except RefusedError:
            await self._uncount(step)
            raise

    async def _count(self, step: MakeGrantedToken) -> None:
        digest = digest_of(step.token.reveal())
        async with self.records.database.transaction() as connection:
            # Who holds this row counts alone.
            row = await connection.fetchrow(
                "UPDATE admin_token_grant SET per_month = per_month WHERE user_id = $1"
                " RETURNING per_month",
                step.user,
            )
            others = await connection.fetchval(
                "SELECT COUNT(*) FROM admin_token_request"
                " WHERE user_id = $1 AND month = $2 AND digest <> $3",
                step.user,
                step.month,
                digest,
            )
            if row is None or int(others) >= int(row["per_month"]):
                raise UserError(t("Your tokens of this month are used up."))
            await connection.execute(
                "INSERT INTO admin_token_request (digest, user_id, month, made_ms)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING",
                digest,
                step.user,
                step.month,
                step.made_ms,
            )
            remember = RememberToken(
                token=step.token, creator=step.user, note=step.note, made_ms=step.made_ms
            )
            await self.records.apply(connection, remember)

    async def _uncount(self, step: MakeGrantedToken) -> None:
        digest = digest_of(step.token.reveal())
        async with self.records.database.transaction() as connection:
            for table in ("admin_token_request", "admin_token"):
                await connection.execute(
                    f"DELETE FROM {table} WHERE digest = $1",  # noqa: S608  # our own two words
                    digest,
                )
