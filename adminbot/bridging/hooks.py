"""Commands of the operator's that stop, start or tell a bridge something.

The promise: no shell, so nothing in an argument is read as anything else; nothing of our own
environment, where secrets may stand; at most a minute, then it is ended with all it started.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from adminbot.bridges.instance import Bridge
from common.i18n import Msg, t
from common.telemetry.log import Log

HOOK_SECONDS = 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = Log("adminbot.bridges")


async def run_hook(
    bridge: Bridge, command: Sequence[str], *arguments: str, seconds: float = HOOK_SECONDS
) -> Msg | None:
    """Run a hook with arguments after its own; return what went wrong, if anything did."""
    program = command[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": _PATH, "LANG": "C.UTF-8", "STEWARD_BRIDGE": bridge.name},
        )
    except (OSError, ValueError) as error:
        why = type(error).__name__
        log.error("a hook could not be started", bridge=bridge.name, program=program, reason=why)
        return t("{program} could not be started: {why}", program=program, why=why)
    try:
        async with asyncio.timeout(seconds):
            status = await process.wait()
    except TimeoutError:
        log.error("a hook took too long", bridge=bridge.name, program=program)
        await _end(process)
        return t(
            "{program} was not done after {seconds} seconds and was ended",
            program=program,
            seconds=round(seconds),
        )
    except asyncio.CancelledError:
        await _end(process)
        raise
    if status == 0:
        return None
    log.error("a hook failed", bridge=bridge.name, program=program, status=status)
    return t("{program} failed with status {status}", program=program, status=status)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a hook and whatever it started that is still of its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
