"""Whose account is a bridge's: the namespaces of registrations, matched in linear time.

Source: Matrix specification v1.18, application service API, "Registration": a namespace is a
regular expression, anchored at the beginning (Synapse uses ``re.match``). User IDs are chosen
by strangers, so the expressions run in RE2, which cannot be made to go back and forth.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import re2

from common.errors import ConfigError
from common.ids import MAX_BYTES, UserId, server_of

LONGEST_EXPRESSION = 1024
MOST_EXPRESSIONS = 64
_REMEMBERED = 20_000


@dataclass(frozen=True)
class Namespaces:
    """Which user IDs belong to one bridge; ``server`` is ours, since ghosts are local accounts."""

    server: str
    expressions: tuple[str, ...]
    bots: frozenset[UserId] = frozenset()
    _patterns: tuple["re2.Pattern", ...] = field(default=(), compare=False, repr=False)

    def covers(self, user: UserId) -> bool:
        """Say whether an account is a ghost of this bridge; its own bot is not."""
        if user in self.bots or len(user) > MAX_BYTES or server_of(user) != self.server:
            return False
        return any(pattern.match(user) is not None for pattern in self._patterns)


def namespaces(server: str, expressions: Iterable[str], bots: Iterable[UserId]) -> Namespaces:
    """Return compiled namespaces.

    Raises:
        ConfigError: an expression is too long or needs what cannot be matched safely.
    """
    kept = tuple(dict.fromkeys(expressions))
    if len(kept) > MOST_EXPRESSIONS:
        raise ConfigError(f"A bridge cannot have more than {MOST_EXPRESSIONS} namespaces.")
    return Namespaces(server, kept, frozenset(bots), tuple(_compiled(each) for each in kept))


def expression_for(localpart: str, server: str) -> str:
    """Return the expression for local parts in which ``*`` stands for any characters."""
    return (
        "^@"
        + ".*".join(re.escape(part) for part in localpart.split("*"))
        + ":"
        + re.escape(server)
        + "$"
    )


def bot_of_expression(expression: str, server: str) -> UserId | None:
    """Return the account that an expression names literally, if it names exactly one.

    mautrix bridges register a random sender; their bot is a namespace of its own.
    """
    text = expression.removeprefix("^").removesuffix("$")
    plain = re.sub(r"\\([^A-Za-z0-9])", r"\1", text)
    # Whatever still has a special sign is not literal; a bare dot stands in host names.
    literal = re.fullmatch(r"@[A-Za-z0-9._=/-]+:[A-Za-z0-9.:-]+", plain)
    return UserId(plain) if literal and server_of(UserId(plain)) == server else None


@dataclass
class Owners:
    """Which bridge an account belongs to, remembered for accounts seen lately."""

    by_bridge: Mapping[str, Namespaces]
    _known: dict[UserId, str | None] = field(default_factory=dict)

    def owner_of(self, user: UserId) -> str | None:
        """Return the name of the bridge whose ghost this is; no bridge's bot is another's ghost."""
        if user not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            names = (name for name, one in self.by_bridge.items() if one.covers(user))
            is_bot = self.bridge_of_bot(user) is not None
            self._known[user] = None if is_bot else next(names, None)
        return self._known[user]

    def bridge_of_bot(self, user: UserId) -> str | None:
        """Return the name of the bridge whose bot this is."""
        return next((name for name, one in self.by_bridge.items() if user in one.bots), None)


def _compiled(expression: str) -> "re2.Pattern":
    if len(expression) > LONGEST_EXPRESSION:
        raise ConfigError(f"A namespace is longer than {LONGEST_EXPRESSION} characters.")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error:
        raise ConfigError(
            f"The namespace “{expression}” cannot be matched safely; write it without looking "
            "ahead or back and without references to groups."
        ) from None
