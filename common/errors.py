"""The four ways something can fail; what happens next depends only on which one it is."""


class StewardError(Exception):
    """The root of every failure that was foreseen."""


class UserError(StewardError):
    """A person asked for something that cannot be done: show them the sentence."""


class TransientError(StewardError):
    """Something outside is away for now: keep the work and try again."""


class PermanentError(StewardError):
    """This piece of work can never succeed: set it aside and raise an alarm."""


class StartOverError(StewardError):
    """What the process was set up with is gone: end it and set it up anew; nothing is lost."""


class ConfigError(StewardError):
    """The configuration cannot be used: say where and what to write, exit status 2."""
