"""Which people are meant: everybody, those in a room, those in a list."""

import csv
import io
from collections.abc import Iterable, Mapping

from adminbot.engine.step import OwnReader
from adminbot.engine.text import cut
from adminbot.own.accounts import BOT, BRIDGED, PERSON, KindsOfAccounts
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.users import GetUser, ListUsers, UserSummary, all_users
from common.i18n import n, t
from common.ids import UserId, parse_user_id, server_of

PAGE = 500
MOST_IN_FILE = 2_000_000
MOST_WRONG_SHOWN = 5


async def open_accounts(admin: AdminReader, *, admins: bool | None = None) -> list[UserSummary]:
    """Return all accounts that are not closed, without guests."""
    request = ListUsers(deactivated=False, admins=admins, limit=PAGE)
    return [user async for user in all_users(admin, request)]


async def only_people(
    admin: AdminReader, own: OwnReader, accounts: Iterable[UserSummary]
) -> list[UserSummary]:
    """Leave out what no person is behind: bridged accounts, bots, and our own."""
    kinds = await own.read(KindsOfAccounts())
    return [one for one in accounts if await _is_person(admin, one, kinds)]


async def _is_person(admin: AdminReader, one: UserSummary, kinds: Mapping[UserId, str]) -> bool:
    if one.user_type is not None or one.is_guest:
        return False
    kind = kinds.get(one.name)
    if kind is None:
        # Not looked at yet: a server with many accounts is learnt in the first minutes.
        try:
            found = await admin.read(GetUser(one.name))
        except NotFoundError:
            return False
        kind = BRIDGED if found.appservice_id is not None else PERSON
    return kind not in {BRIDGED, BOT}


def read_user(word: str, server_name: str) -> UserId:
    """Return the account a word names; a local name is enough."""
    name = word.strip()
    return parse_user_id(name if ":" in name else f"@{name.removeprefix('@')}:{server_name}")


def read_users(text: str | None, server_name: str) -> frozenset[UserId]:
    """Return the accounts of a list with commas."""
    words = [word for word in (text or "").split(",") if word.strip()]
    return frozenset(read_user(word, server_name) for word in words)


def read_file(data: bytes, server_name: str) -> frozenset[UserId]:
    """Return the accounts in the first column of a file, one a line; a heading may be there.

    Raises:
        UserError: a line is no account of this server; nothing of it is used then.
    """
    text = data.decode("utf-8-sig", "replace")
    found: set[UserId] = set()
    wrong: list[str] = []
    for number, row in enumerate(csv.reader(io.StringIO(text))):
        cell = row[0].strip() if row else ""
        if not cell or (number == 0 and cell.lower() in {"user", "user_id", "name", "mxid"}):
            continue
        try:
            user = read_user(cell.lstrip("'"), server_name)
        except UserError:
            wrong.append(cut(cell, 60))
            continue
        if server_of(user) == server_name:
            found.add(user)
        else:
            wrong.append(cut(cell, 60))
    if wrong:
        raise UserError(
            n(
                "{count} line is no account of this server: {lines}. Mend the file and send it again.",
                "{count} lines are no accounts of this server: {lines}. Mend the file and send it"
                " again.",
                len(wrong),
                lines=", ".join(wrong[:MOST_WRONG_SHOWN]),
            )
        )
    if not found:
        raise UserError(t("The file names nobody: it wants one user ID a line."))
    return frozenset(found)
