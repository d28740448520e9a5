"""How the space that the server takes grows, from what was written down day by day."""

from collections.abc import Mapping
from datetime import UTC, date, timedelta

from adminbot import pictures
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, File, Span, Table, answer, csv_file, facts, size
from adminbot.engine.command import command
from adminbot.engine.held import Held, held_now
from adminbot.engine.step import OwnReader
from adminbot.engine.values import NO_CSV, Csv
from adminbot.own.storage import HeldByDay
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import n, t

MOST_DAYS = 366
_SHOWN = 31
_MEBIBYTE = 1024 * 1024


@command("storage growth", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def storage_growth(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    *,
    days: int = 30,
    trend: bool = False,
    csv: Csv = NO_CSV,
) -> Answer:
    """Show how the files of this server's people grow, and rooms and accounts with them.

    The homeserver only knows how much there is now, so I write it down every day (UTC).

    Args:
        days: over how many, up to today
        trend: with a picture
    """
    if not 1 <= days <= MOST_DAYS:
        raise UserError(t("Between 1 and {most} days can be shown.", most=MOST_DAYS))
    today = caller.now.astimezone(UTC).date()
    first = today - timedelta(days=days)
    held = {**await own.read(HeldByDay(str(first))), today: await held_now(admin)}
    said = answer(facts(_summary(held, today)))
    if csv:
        names = ("day", "files", "bytes", "rooms", "accounts")
        rows = ((day, one.files, one.bytes, one.rooms, one.accounts) for day, one in held.items())
        said = said.with_file(csv_file("storage.csv", names, rows))
    else:
        said = said.followed_by(_table(held))
    if trend:
        title = t("Files of this server, in MiB")
        labels = [str(day) for day in held]
        values = [one.bytes // _MEBIBYTE for one in held.values()]
        drawn = pictures.bars(str(title), labels, values, last_is_open=True)
        said = said.with_file(File("storage.png", "image/png", drawn))
    return said


def _summary(held: Mapping[date, Held], today: date) -> list[tuple[str, Span | None]]:
    first, now = min(held), held[today]
    passed = (today - first).days
    grown = now.bytes - held[first].bytes
    return [
        (t("Files of this server"), str(now.files)),
        (t("Their size"), size(now.bytes)),
        (t("Written down since"), str(first)),
        (
            t("Grown by"),
            n(
                "{size} in {count} day",
                "{size} in {count} days",
                passed,
                size=_signed(grown),
            )
            if passed
            else t("not known yet; ask again tomorrow"),
        ),
        (t("A day"), _signed(grown // passed) if passed else None),
    ]


def _table(held: Mapping[date, Held]) -> Table:
    """Return the last days, each with how much more there was than on the one before."""
    rows: list[tuple[Span, ...]] = []
    before: Held | None = None
    for day, one in held.items():
        more = "" if before is None else _signed(one.bytes - before.bytes)
        rows.append(
            (str(day), size(one.bytes), more, str(one.files), str(one.rooms), str(one.accounts))
        )
        before = one
    columns = (t("Day"), t("Size"), t("More"), t("Files"), t("Rooms"), t("Accounts"))
    return Table(columns, tuple(rows[-_SHOWN:]))


def _signed(number: int) -> str:
    return f"+{size(number)}" if number >= 0 else f"-{size(-number)}"
