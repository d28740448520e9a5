"""A file of people: who is to be made, changed or closed, one a line.

The promise: a file is read as a whole or refused with what is wrong, line by line. A cell that is
empty, and a column that is missing, leaves alone what it is about.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adminbot.engine.table import TableRow, decoded, rows_of
from adminbot.engine.text import joined, listed, nearest
from adminbot.engine.userlist import user_in
from common.config.secret import Secret
from common.errors import UserError
from common.i18n import n, t
from common.ids import UserId

MOST_BYTES = 4 * 2**20
MOST_PEOPLE = 10_000
MOST_ERRORS = 20
LONGEST_PASSWORD, SHORTEST_PASSWORD = 512, 8

# By every name that a column has in the files people have.
_COLUMNS = {
    "user": ("user", "user_id", "userid", "username", "mxid", "localpart", "id"),
    "display_name": ("displayname", "display_name", "name", "full_name"),
    "emails": ("email", "emails", "e-mail", "mail", "email_address"),
    "admin": ("admin", "server_admin"),
    "type": ("type", "user_type"),
    "password": ("password",),
    "deactivated": ("deactivated", "closed"),
    "identities": ("sso", "external_id", "external_ids"),
    # What our own list of accounts has besides; it is there to be read.
    "": ("state", "created_ms", "last_seen_ms", "application_service"),
}


@dataclass(frozen=True)
class Person:
    """One line; ``None`` is what it says nothing of."""

    line: int
    user: UserId
    display_name: str | None = None
    emails: tuple[str, ...] | None = None
    admin: bool | None = None
    type: str | None = None
    password: Secret | None = field(default=None)
    deactivated: bool | None = None
    identities: tuple[tuple[str, str], ...] | None = None


def people_in(data: bytes, server_name: str) -> tuple[Person, ...]:
    """Return who is in a file.

    Raises:
        UserError: with the first things that are wrong, each with its line.
    """
    rows = rows_of(decoded(data), most=MOST_PEOPLE + 1)
    if len(rows) < 2:  # noqa: PLR2004  # the heading and somebody
        raise UserError(t("The file needs a line of column names, and people below it."))
    columns = _headed(rows[0])
    found: dict[UserId, Person] = {}
    wrong = Wrong()
    for row in rows[1:]:
        try:
            one = _person(row, columns, server_name)
            if one.user in found:
                raise _at(
                    row,
                    t(
                        "{user} stands in line {other} too.",
                        user=one.user,
                        other=found[one.user].line,
                    ),
                )
            found[one.user] = one
        except UserError as error:
            wrong.note(str(error))
    wrong.check()
    return tuple(found.values())


@dataclass
class Wrong:
    """What is wrong with a file, collected, so that all of it can be mended at once."""

    sentences: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add what is wrong with a line."""
        self.sentences.append(sentence)

    def check(self) -> None:
        """Raise a ``UserError`` if anything is wrong."""
        if not self.sentences:
            return
        shown = self.sentences[:MOST_ERRORS]
        more = len(self.sentences) - len(shown)
        if more:
            shown.append(n("… and {count} more line", "… and {count} more lines", more))
        head: str = t("The file cannot be used; nothing was done.")
        raise UserError(joined([head, *shown], "\n"))


def _headed(row: TableRow) -> Mapping[str, int]:
    """Return where each thing stands."""
    known = {alias: name for name, aliases in _COLUMNS.items() for alias in aliases}
    columns: dict[str, int] = {}
    for number, cell in enumerate(row.cells):
        word = cell.lower().replace(" ", "_")
        if not word:
            continue
        if word not in known:
            raise _unknown(row, cell, list(known))
        name = known[word]
        if name and name in columns:
            raise _at(row, t("The column “{column}” is there twice.", column=cell))
        columns[name] = number
    if "user" not in columns:
        raise _at(row, t("There is no column called “user”."))
    return {name: number for name, number in columns.items() if name}


def _unknown(row: TableRow, cell: str, known: Sequence[str]) -> UserError:
    likely = nearest(cell, known, limit=1)
    if likely:
        return _at(
            row,
            t(
                "No column is called “{column}”; did you mean “{likely}”?",
                column=cell,
                likely=likely[0],
            ),
        )
    names = listed([aliases[0] for name, aliases in _COLUMNS.items() if name])
    return _at(row, t("No column is called “{column}”, only {names}.", column=cell, names=names))


def _person(row: TableRow, columns: Mapping[str, int], server_name: str) -> Person:
    def cell(name: str) -> str:
        number = columns.get(name)
        return row.cells[number] if number is not None and number < len(row.cells) else ""

    if len(row.cells) > max(columns.values()) + len(_COLUMNS[""]) + 1:
        raise _at(row, t("There are more cells than columns."))
    user = user_in(cell("user"), server_name, row.line)
    one = Person(row.line, user, display_name=cell("display_name") or None)
    readers: Mapping[str, Callable[[TableRow, str], object]] = {
        "emails": _emails,
        "admin": _yes_no,
        "type": _type,
        "password": _password,
        "deactivated": _yes_no,
        "identities": _identities,
    }
    read = {name: reader(row, cell(name)) for name, reader in readers.items() if cell(name)}
    return replace(one, **read)  # type: ignore[arg-type]  # each reader returns its field's type


def _yes_no(row: TableRow, cell: str) -> bool:
    word = cell.lower()
    if word in {"yes", "true", "1", "on", "x", "ja", "wahr"}:
        return True
    if word in {"no", "false", "0", "off", "nein", "falsch"}:
        return False
    raise _at(row, t("“{cell}” is neither yes nor no.", cell=cell))


def _emails(row: TableRow, cell: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.lower() for word in cell.replace(",", " ").split()))
    for word in found:
        name, at, domain = word.rpartition("@")
        if not (name and at and domain) or "@" in name:
            raise _at(row, t("“{cell}” is no e-mail address.", cell=word))
    return found


def _type(row: TableRow, cell: str) -> str:
    if cell.lower() not in {"bot", "support"}:
        raise _at(row, t("“{cell}” is no type; it is bot, support or nothing.", cell=cell))
    return cell.lower()


def _password(row: TableRow, cell: str) -> Secret:
    if not SHORTEST_PASSWORD <= len(cell) <= LONGEST_PASSWORD:
        raise _at(
            row,
            t(
                "The password is too short or too long: at least {least} signs.",
                least=SHORTEST_PASSWORD,
            ),
        )
    return Secret(cell)


def _identities(row: TableRow, cell: str) -> tuple[tuple[str, str], ...]:
    found = []
    for word in cell.split():
        provider, colon, identity = word.partition(":")
        if not (provider and colon and identity):
            raise _at(
                row, t("“{cell}” is no identity; one looks like oidc-name:identity.", cell=word)
            )
        found.append((provider, identity))
    return tuple(found)


def _at(row: TableRow, sentence: str) -> UserError:
    return UserError(t("Line {line}: {why}", line=row.line, why=sentence))
