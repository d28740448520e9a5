"""What of somebody's stays behind elsewhere when their account is closed, said before it is."""

from collections.abc import Sequence
from datetime import datetime

from adminbot.commands.activity import MORE_THAN_DAYS
from adminbot.engine.answer import Block, Bullets, Mono, Pill, Spans, say
from adminbot.engine.step import OwnReader
from adminbot.own.accounts import Month
from adminbot.own.bridges import LoginsEverywhere
from common.i18n import n, t
from common.ids import UserId


async def ties(own: OwnReader, now: datetime, users: Sequence[UserId]) -> list[Block]:
    """Return at which bridges they are logged in, and whether they count as active this month."""
    blocks: list[Block] = []
    bridges: dict[UserId, list[str]] = {}
    for login in await own.read(LoginsEverywhere()):
        if login.user in users:
            bridges.setdefault(login.user, []).append(login.bridge)
    if bridges:
        said = t(
            "Log-ins at bridges, which only the person ends, by “bridge logout”, as long as the "
            "account is there:"
        )
        lines: list[Spans] = [
            (Pill(user), ": ", Mono(", ".join(names))) for user, names in sorted(bridges.items())
        ]
        blocks += [say(said), Bullets(tuple(lines))]
    seen = await own.read(Month(f"{now:%Y-%m}"))
    counted = sum(seen.get(user, 0) > MORE_THAN_DAYS for user in users)
    if counted and len(users) == 1:
        said = t(
            "The account counts among this month's active users, and does so until the month is "
            "over."
        )
        blocks.append(say(said))
    elif counted:
        blocks.append(
            say(
                n(
                    "{count} of the accounts counts among this month's active users, and does so "
                    "until the month is over.",
                    "{count} of the accounts count among this month's active users, and do so "
                    "until the month is over.",
                    counted,
                )
            )
        )
    return blocks
