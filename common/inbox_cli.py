"""``steward inbox``: what could not be dealt with, and to have it tried again.

It speaks through the database only, so it works beside a Steward that runs and without one.
"""

import asyncio
import sys
from argparse import Namespace
from datetime import UTC, datetime

from common.config.schema import Config
from common.database.migrations import upgrade_table
from common.database.pool import Database
from common.inbox.aside import SetAside, ask_for_retry, list_aside
from common.inbox.consumer import LOOK_SECONDS


def main(arguments: Namespace, config: Config) -> int:
    """Carry ``list`` or ``retry`` out."""
    asyncio.run(_carry_out(config, retry=arguments.action == "retry"))
    return 0


async def _carry_out(config: Config, *, retry: bool) -> None:
    database = Database(config.database.url.reveal(), upgrade_table(), max_connections=2)
    await database.start()
    try:
        entries = await list_aside(database)
        if not entries:
            sys.stdout.write("Nothing is set aside.\n")
            return
        for entry in entries:
            sys.stdout.write(f"{_line(entry)}\n")
        if retry:
            async with database.transaction() as connection:
                await ask_for_retry(connection)
            sys.stdout.write(
                f"A Steward that runs tries these again within {LOOK_SECONDS:g} seconds; "
                "otherwise they are tried at the next start. “steward inbox list” shows what "
                "is left.\n"
            )
    finally:
        await database.stop()


def _line(entry: SetAside) -> str:
    moment = datetime.fromtimestamp(entry.set_aside_ms / 1000, UTC)
    again = f", tried again {entry.attempts} times" if entry.attempts else ""
    return (
        f"{moment:%Y-%m-%d %H:%M:%S} UTC  {entry.reader}: {entry.kind.value} at "
        f"{entry.position}: {entry.reason}{again}"
    )
