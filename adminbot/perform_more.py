"""Steps of server admins that take more than one call, and are safe to repeat."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

from adminbot.engine.server_steps import ExpireToken, KeepValid
from adminbot.execution import Perform
from adminbot.server_acts import Admin
from common.clock import Clock
from common.errors import TransientError
from common.homeserver.errors import RefusedError, SwitchedOffError
from common.homeserver.synapse.registration_tokens import (
    GetRegistrationToken,
    UpdateRegistrationToken,
)
from common.homeserver.synapse.user_rights import SetAccountValidity
from common.i18n import t

_SOON_MS = (500, 2_000, 60_000)
"""When a token is to expire: the homeserver takes no moment that has passed by its own clock."""
_LONGEST_WAIT_MS = 2_000


def more_performers(admin: Admin, clock: Clock) -> Mapping[type, Perform]:
    """Return who carries out which kind of step."""

    async def expire_token(step: ExpireToken, _key: str) -> None:
        await _expire(admin, clock, step)

    async def keep_valid(step: KeepValid, _key: str) -> str:
        return str(await _keep_valid(admin, step))

    return {ExpireToken: expire_token, KeepValid: keep_valid}


async def _keep_valid(admin: Admin, step: KeepValid) -> int:
    """Return until when the account is valid now, in milliseconds."""
    emails = step.renewal_emails
    try:
        until_ms = await admin.change(SetAccountValidity(user=step.user, renewal_emails=emails))
    except TransientError as error:
        if error.status != HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        # An assertion of Synapse's (synapse/handlers/account_validity.py): there is no period.
        raise SwitchedOffError(
            t(
                "This homeserver lets no account expire. Set {setting} in homeserver.yaml, and "
                "restart it.",
                setting="account_validity",
            )
        ) from error
    if step.until_ms is None:
        return until_ms
    return await admin.change(
        SetAccountValidity(user=step.user, expires_ms=step.until_ms, renewal_emails=emails)
    )


async def _expire(admin: Admin, clock: Clock, step: ExpireToken) -> None:
    now = await admin.read(GetRegistrationToken(step.token.reveal()))
    if step.off and now.uses_allowed == 0 and (now.expiry_time or 2**62) < clock.now_ms():
        return  # it has been done already
    for number, ahead_ms in enumerate(_SOON_MS, 1):
        change = UpdateRegistrationToken(
            token=now.token,
            uses_allowed=0 if step.off else now.uses_allowed,
            expires_ms=clock.now_ms() + ahead_ms,
        )
        try:
            await admin.change(change)
        except RefusedError:
            if number == len(_SOON_MS):
                raise
        else:
            # Said to be done when it is.
            await asyncio.sleep(min(ahead_ms, _LONGEST_WAIT_MS) / 1000)
            return
