"""``steward verify``: the emoji of whoever verifies a bot just now, to compare with them.

The one who verifies reads theirs aloud, by telephone or across the table; whoever sits here says
whether they are the same. It reads our own database only, never a room.
"""

import asyncio
import sys
from argparse import Namespace
from datetime import UTC, datetime

from common import identity
from common.clock import Clock, SystemClock
from common.config.schema import Config
from common.crypto.verification_board import Shown, VerificationBoard
from common.database.migrations import upgrade_table
from common.database.pool import Database
from common.errors import UserError
from common.ids import UserId

_LOOK_SECONDS = 0.5


def main(arguments: Namespace, config: Config) -> int:
    """Show verifications as they come, until Ctrl-C or for ``--seconds``."""
    settings = config.adminbot if arguments.bot == "adminbot" else config.auditbot
    bot = identity.account(config, settings.localpart)
    asyncio.run(_watch(config, bot, arguments.seconds))
    return 0


async def _watch(config: Config, bot: UserId, seconds: float | None) -> None:
    clock = SystemClock()
    database = Database(config.database.url.reveal(), upgrade_table(), max_connections=2)
    await database.start()
    try:
        board = VerificationBoard(bot, database, clock)
        _say(f"Waiting for somebody to verify {bot} by emoji; Ctrl-C ends.")
        ended = await _follow(board, clock, seconds)
    finally:
        await database.stop()
    if not ended:
        raise UserError(f"Nobody has finished verifying {bot} within {seconds:g} seconds.")


async def _follow(board: VerificationBoard, clock: Clock, seconds: float | None) -> bool:
    """Tell what is new; return whether one ended before the time was over."""
    end = None if seconds is None else clock.monotonic() + seconds
    # What ended before we looked is not for the person who has just begun to wait.
    told = {(one.peer, one.flow): one for one in await board.shown() if one.outcome}
    while end is None or clock.monotonic() < end:
        for one in await board.shown():
            before = told.get((one.peer, one.flow))
            if before == one:
                continue
            told[one.peer, one.flow] = one
            _say(_begun(one) if before is None else "")
            if one.outcome:
                _say(f"{one.peer.user_id}: {_plain(one.outcome)}")
                if seconds is not None:
                    return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False


def _begun(one: Shown) -> str:
    moment = datetime.fromtimestamp(one.shown_ms / 1000, UTC)
    emoji = "\n".join(f"    {each.strip()}" for each in one.emoji.split(","))
    return (
        f"\n{moment:%H:%M:%S} UTC: {one.peer.user_id} verifies with the device "
        f"{_plain(one.peer.device_id)}. On their screen must be, in this order,\n\n{emoji}\n\n"
        f"or the numbers {one.numbers}. Have them read theirs to you. If they are the same, they\n"
        "confirm in their app; if not, they say so there, and somebody is in between."
    )


def _plain(text: str) -> str:
    """Return what somebody else wrote without what a terminal obeys."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _say(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
