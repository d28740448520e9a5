"""Who is meant by a command about several people: those named, or those in a file."""

from adminbot.engine.supply import Attached
from adminbot.engine.table import decoded, rows_of
from common.errors import UserError
from common.i18n import t
from common.ids import UserId, parse_user_id

MOST_BYTES = 2 * 2**20
MOST_USERS = 20_000
_HEADINGS = ("user", "user_id", "userid", "user id", "username", "mxid", "localpart", "id", "name")


async def named_users(
    users: tuple[UserId | None, ...], attached: Attached, server_name: str
) -> tuple[UserId, ...]:
    """Return the people named; without any, those of the file that came with the command.

    Raises:
        UserError: nobody is meant, or the file cannot be read.
    """
    named = tuple(dict.fromkeys(user for user in users if user is not None))
    if named:
        return named
    data = await attached.file(most_bytes=MOST_BYTES)
    if data is None:
        raise UserError(t("Name somebody, or send the command with a file of user IDs."))
    return users_of(data, server_name)


def users_of(data: bytes, server_name: str) -> tuple[UserId, ...]:
    """Return the user IDs in the first column, or the one called “user”, of a file."""
    rows = rows_of(decoded(data), most=MOST_USERS + 1)
    if not rows:
        raise UserError(t("The file is empty."))
    heading = [cell.lower() for cell in rows[0].cells]
    column = next((heading.index(word) for word in _HEADINGS if word in heading), None)
    found: dict[UserId, None] = {}
    for row in rows if column is None else rows[1:]:
        cell = row.cells[column or 0] if len(row.cells) > (column or 0) else ""
        if cell:
            found[user_in(cell, server_name, row.line)] = None
    if not found:
        raise UserError(t("There is no user ID in the file."))
    return tuple(found)


def user_in(cell: str, server_name: str, line: int) -> UserId:
    """Return the account a cell names, by user ID or local name."""
    name = cell if ":" in cell else f"@{cell.removeprefix('@')}:{server_name}"
    try:
        return parse_user_id(name)
    except UserError:
        raise UserError(t("Line {line}: “{cell}” is no user ID.", line=line, cell=cell)) from None
