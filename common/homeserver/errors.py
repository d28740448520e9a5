"""How a homeserver refuses; each is a sentence that can be shown to the person who asked."""

from common.errors import PermanentError, UserError
from common.i18n import t


class RefusedError(UserError):
    """The homeserver said no (specification: "standard error response")."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(
            t("The homeserver refused: {reason}", reason=message or errcode or status)
        )
        self.status = status
        self.errcode = errcode
        self.message = message


class NotFoundError(RefusedError):
    """What was asked for does not exist (``M_NOT_FOUND``)."""


class NotAllowedError(RefusedError):
    """The account that asks lacks the right (``M_FORBIDDEN``): it is no server admin."""


class UnsupportedError(RefusedError):
    """This homeserver does not have the endpoint (``M_UNRECOGNIZED``)."""


class SwitchedOffError(UserError):
    """The homeserver can do it but is not set up to: until it is, no other try can succeed."""


class BeyondGrantError(UserError):
    """The request is not within what the asking person may have done."""

    def __init__(self, right: str) -> None:
        super().__init__(
            t("This needs the right “{right}”, which you do not hold here.", right=right)
        )


class StrangeAnswerError(PermanentError):
    """The homeserver's answer does not have the documented shape."""
