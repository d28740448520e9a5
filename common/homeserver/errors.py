"""How a homeserver refuses; each is a sentence that can be shown to the person who asked."""

from common.errors import PermanentError, UserError


class RefusedError(UserError):
    """The homeserver said no (specification: "standard error response")."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(f"The homeserver refused: {message or errcode or status}")
        self.status = status
        self.errcode = errcode
        self.message = message


class NotFoundError(RefusedError):
    """What was asked for does not exist (``M_NOT_FOUND``)."""


class NotAllowedError(RefusedError):
    """The account that asks lacks the right (``M_FORBIDDEN``): it is no server admin."""


class UnsupportedError(RefusedError):
    """This homeserver does not have the endpoint (``M_UNRECOGNIZED``)."""


class BeyondGrantError(UserError):
    """The request is not within what the asking person may have done."""


class StrangeAnswerError(PermanentError):
    """The homeserver's answer does not have the documented shape."""
