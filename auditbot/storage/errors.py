"""What the two kinds of store have in common in failing."""

from common.errors import PermanentError, StewardError, TransientError

AWAY, CONFLICT, REFUSED = "away", "conflict", "refused"
ERROR_CLASSES = (AWAY, CONFLICT, REFUSED)


class ObjectExistsError(PermanentError):
    """The key holds other bytes than were to be written there."""


def class_of(error: StewardError) -> str:
    """Return of which class a failure to store is: whether it goes by itself, and what it is about."""
    if isinstance(error, TransientError):
        return AWAY
    return CONFLICT if isinstance(error, ObjectExistsError) else REFUSED
