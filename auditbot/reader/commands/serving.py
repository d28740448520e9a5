"""``steward audit serve``: the officers' page on this machine."""

import argparse
import asyncio
import ipaddress
import socket
import sys
from contextlib import closing

from aiohttp import web

from auditbot.reader.commands.library import (
    access_log,
    add_library_options,
    add_parts_option,
    choose_parts,
)
from auditbot.reader.commands.options import add_zone_option, open_archive
from auditbot.reader.index.database import usable
from auditbot.reader.index.library import Library
from auditbot.reader.serve.app import make_app
from auditbot.reader.serve.desk import Desk
from auditbot.reader.serve.security import Door, Hosts
from common.account import account_name
from common.clock import SystemClock
from common.errors import ConfigError, PermanentError

_PORT = 8765


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command to the parser."""
    command = commands.add_parser(
        "serve",
        help="a page on this machine: search, rooms, people, coverage, exports",
        description="Serve a read-only page on this machine until it is stopped with Ctrl-C. "
        "The address that it prints logs one browser in, once.",
    )
    command.set_defaults(act=_serve)
    command.add_argument(
        "--bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen on (default 127.0.0.1, this machine only)",
    )
    command.add_argument("--port", type=int, default=_PORT, help=f"default {_PORT}; 0 for any")
    command.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a further name under which browsers reach the page, such as that of a proxy with "
        "TLS: archive.example.org, or archive.example.org:8443 where it has a port",
    )
    add_zone_option(command)
    add_parts_option(command)
    add_library_options(command)


async def _serve(arguments: argparse.Namespace) -> int:
    clock = SystemClock()
    async with open_archive(arguments) as archive:
        with (
            usable(archive.cache),
            closing(Library(archive.cache, archive.identities)) as library,
        ):
            await choose_parts(arguments, library)
            desk = Desk(
                archive=archive,
                library=library,
                log=access_log(archive),
                clock=clock,
                zone=arguments.zone,
                zone_name=str(arguments.zone),
                user=account_name(),
                fingerprints=tuple(arguments.key),
            )
            async with asyncio.TaskGroup() as group:
                await _run(desk, Door(clock), arguments, group)
    return 0


async def _run(
    desk: Desk, door: Door, arguments: argparse.Namespace, group: asyncio.TaskGroup
) -> None:
    with _listening(arguments.bind, arguments.port) as listener:
        port = listener.getsockname()[1]
        app = make_app(desk, door, _hosts(arguments, port))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            if not _is_loopback(arguments.bind):
                sys.stderr.write(
                    "Others can reach this page, and it is not encrypted: put a proxy with TLS "
                    "before it, which sets X-Forwarded-Proto, and give its name with --name.\n"
                )
            token = door.new_token()
            here, *elsewhere = (
                f"    {address}/login?token={token}\n" for address in _addresses(arguments, port)
            )
            by_proxy = f"\nor, through the proxy:\n\n{''.join(elsewhere)}" if elsewhere else ""
            sys.stdout.write(f"Open this address, once:\n\n{here}{by_proxy}\nStop with Ctrl-C.\n")
            sys.stdout.flush()
            group.create_task(_prepare(desk, arguments))
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except (OSError, OverflowError) as error:
        raise PermanentError(
            f"Nothing can listen on {address}, port {port} ({error}): choose another port with "
            "--port."
        ) from error


def _hosts(arguments: argparse.Namespace, port: int) -> Hosts:
    names = {_in_url(arguments.bind), "127.0.0.1", "localhost", "[::1]"}
    if _is_any(arguments.bind):
        names.add(socket.gethostname())
    return Hosts(
        own=frozenset(f"{name}:{port}".lower() for name in names),
        proxied=frozenset(str(name).lower() for name in arguments.name),
    )


def _addresses(arguments: argparse.Namespace, port: int) -> list[str]:
    """Return what a browser can open: here, and through a proxy where one is named."""
    # Nobody can open 0.0.0.0.
    name = socket.gethostname() if _is_any(arguments.bind) else arguments.bind
    return [f"http://{_in_url(name)}:{port}", *(f"https://{each}" for each in arguments.name)]


def _is_any(address: str) -> bool:
    return address in {"0.0.0.0", "::"}  # noqa: S104  # compared, not listened on


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def _prepare(desk: Desk, arguments: argparse.Namespace) -> None:
    if arguments.no_sync:
        await desk.add_missing_parts()
        return
    await desk.sync()
    await desk.verify()


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        if address != "localhost":
            raise ConfigError(f"“{address}” is no address to listen on.") from None
        return True
