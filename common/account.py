"""Who runs this process, for what is written down of people's acts."""

import os
import pwd


def account_name() -> str:
    """Return the name of the account that this runs as, whatever its environment says.

    Not ``getpass.getuser``: that believes ``$LOGNAME``, which whoever acts can set.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
