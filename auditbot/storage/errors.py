"""What the two kinds of store have in common in failing."""

from common.errors import PermanentError


class ObjectExistsError(PermanentError):
    """The key holds other bytes than were to be written there."""
