"""What is said of accounts wherever they are shown."""

from collections.abc import Iterable
from datetime import datetime

from adminbot.engine.answer import Mono, Span, Spans
from adminbot.engine.text import joined
from common.homeserver.synapse.users import UserDetails, UserSummary
from common.i18n import t
from common.ids import UserId


def state(found: UserDetails | UserSummary) -> str:
    """Return an account's state in a word or two."""
    claims = {
        t("erased"): found.erased,
        t("deactivated"): found.deactivated and not found.erased,
        t("suspended"): isinstance(found, UserDetails) and found.suspended,
        t("locked"): found.locked,
        t("shadow-banned"): found.shadow_banned,
        t("guest"): found.is_guest,
        t("not approved"): isinstance(found, UserDetails) and _waits(found),
    }
    said = [word for word, claim in claims.items() if claim]
    return joined(said) if said else t("active")


def _waits(found: UserDetails) -> bool:
    # Application services' accounts are never approved, and need not be.
    return found.approved is False and not found.deactivated and found.appservice_id is None


def localpart(user: UserId) -> str:
    """Return a user ID's part before the colon."""
    return user[1:].partition(":")[0]


def ms_of(moment: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def mono(text: str | None) -> Span | None:
    """Return words that somebody else chose; ``None`` where there are none."""
    return Mono(text) if text else None


def many(texts: Iterable[str]) -> Spans | None:
    """Return several such words; ``None`` where there are none."""
    spans: list[Span] = []
    for text in texts:
        spans.extend([", ", Mono(text)] if spans else [Mono(text)])
    return tuple(spans) or None


def described(users: Iterable[UserId]) -> str:
    """Return one person's user ID, or of several the first few and how many."""
    named = list(users)
    if len(named) <= _MOST_NAMED:
        return ", ".join(named)
    return t("{first} and {count} others", first=", ".join(named[:1]), count=len(named) - 1)


_MOST_NAMED = 3
