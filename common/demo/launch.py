"""Become another program that ends when the one that asked for it ends.

Run as a script, before the program itself, with one argument: the order as JSON. It stands
alone on purpose (``python -I -S``), so that it starts in a few milliseconds.
"""

import ctypes
import json
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have gone before the line above took hold.
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Carry out the order: ``{"parent", "user", "environment", "command"}``."""
    order = json.loads(sys.argv[1])
    if order["user"]:
        _become(order["user"])  # first: a change of user forgets the parent-death signal
    _die_with(order["parent"])
    os.environ.update(order["environment"])  # noqa: TID251  # what the next program inherits
    command = order["command"]
    os.execvp(command[0], command)  # noqa: S606  # that is its whole purpose


if __name__ == "__main__":
    main()
