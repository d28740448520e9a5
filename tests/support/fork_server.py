"""Start Python programs that have been imported already: run as a script by ``forking``.

The arguments are modules, which are imported once. Each order on standard input, a socket, is then
carried out by a fork: it becomes ``python -m MODULE …`` in a session of its own, without the two
seconds of CPU that the imports of Synapse or of Steward take. Like what ``launch.py`` starts, it
ends when the one that asked for it ends. It stands alone, so that nothing else is imported.
What Synapse keeps in SQLite may be lost in a power cut, as what the tests keep in PostgreSQL.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sqlite3
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ORDER_BYTES = 1 << 20


def _prepare(modules: list[str]) -> None:
    """Import what will be needed."""
    if any(module.startswith("synapse.") for module in modules):
        # Twisted makes its event loop when it is imported, and a fork must not share it. Synapse
        # has the remedy, for starting its own workers in this way.
        from synapse.app.complement_fork_proxied_reactor import ProxiedReactor  # noqa: PLC0415  # only for Synapse
        from twisted.internet.main import installReactor  # noqa: PLC0415  # the same

        installReactor(ProxiedReactor())  # type: ignore[no-untyped-call]  # Twisted's
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all these objects' pages


def _serve(orders: socket.socket) -> str | None:
    """Fork for each order; return it in the fork, and None in the server once nobody asks."""
    reports: dict[int, int] = {}

    def reap(number: int, frame: object) -> None:
        while reports:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            report = reports.pop(process)
            with contextlib.suppress(BrokenPipeError):  # whoever asked no longer wants to know
                os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(report)

    signal.signal(signal.SIGCHLD, reap)
    server = os.getpid()
    while True:
        order, (*handles,), _, _ = socket.recv_fds(orders, _ORDER_BYTES, 2)
        if not order:
            return None
        log, report = handles
        # One that ends at once must be known before its end is heard of.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        process = os.fork()
        if process == 0:
            orders.close()
            for other in reports.values():
                os.close(other)
            _detach(server, log, report)
            return order.decode()
        reports[process] = report
        os.close(log)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _detach(server: int, log: int, report: int) -> None:
    """Be a process of one's own that ends with the server, and say so."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The server may have gone before the line above took hold.
    if os.getppid() != server:
        os._exit(1)
    # The orders came from standard input, which is closed by now, so that it may be its number.
    nothing = os.open(os.devnull, os.O_RDONLY)
    for handle, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(handle, place)
    for handle in {nothing, log} - {0, 1, 2}:
        os.close(handle)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    os.write(report, b"%d\n" % os.getpid())
    os.close(report)


def _without_waiting_for_disks() -> None:
    """Let SQLite not wait until data is on disk, which only a power cut would show."""
    connect = sqlite3.connect

    def hurried(*words: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*words, **named)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    sqlite3.connect = hurried  # type: ignore[assignment]  # Synapse has no option for it


def _become(order: str) -> None:
    """Carry out the order: ``{"directory", "environment", "module", "words"}``."""
    told = json.loads(order)
    os.chdir(told["directory"])
    os.environ.clear()  # noqa: TID251  # it has that of the one that asked, as it is now
    os.environ.update(told["environment"])  # noqa: TID251  # the same
    if told["module"].startswith("synapse."):
        from twisted.internet import reactor  # noqa: PLC0415  # the import makes it
        from twisted.internet.epollreactor import EPollReactor  # noqa: PLC0415  # only in the fork

        reactor._install_real_reactor(EPollReactor())  # type: ignore[no-untyped-call]  # Synapse's
        _without_waiting_for_disks()
    sys.argv = [told["module"], *told["words"]]
    sys.modules.pop(told["module"], None)  # it is run as the main module, not used
    runpy.run_module(told["module"], run_name="__main__", alter_sys=True)


def main() -> None:
    """Import the modules of the arguments, then serve."""
    _prepare(sys.argv[1:])
    order = _serve(socket.socket(fileno=0))
    if order is not None:
        _become(order)


if __name__ == "__main__":
    main()
