"""The four ways something can fail; what happens next depends only on which one it is."""


class StewardError(Exception):
    """The root of every failure that was foreseen."""


class UserError(StewardError):
    """A person asked for something that cannot be done: show them the sentence."""


class TransientError(StewardError):
    """Something outside is away for now: keep the work and try again.

    ``retry_after_ms`` is the wait that was asked for, in milliseconds, if any was; ``status`` the
    HTTP status of what it answered, if it did.
    """

    def __init__(
        self, message: str = "", *, retry_after_ms: int | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.status = status


class PermanentError(StewardError):
    """This piece of work can never succeed: set it aside and raise an alarm."""


class StartOverError(StewardError):
    """What the process was set up with is gone: end it and set it up anew; nothing is lost."""


class ConfigError(StewardError):
    """The configuration cannot be used: say where and what to write, exit status 2."""
