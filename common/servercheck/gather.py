"""Ask everything about a server that a judgement needs, in the order that the answers allow.

Source: Matrix specification v1.18, client-server API, "Server discovery"; server-server API,
"Resolving server names".
"""

import asyncio
from urllib.parse import urlsplit

from common.crypto.canonical import object_of, text_of
from common.servercheck.facts import By, ClientFacts, Delegation, Facts, ServerFacts
from common.servercheck.names import ServerName, server_name_of
from common.servercheck.port import Certificate, Fetched, Internet, Refused

FEDERATION_PORT = 8448
HTTPS_PORT = 443
LONGEST_URL = 2000


async def gather(name: ServerName, internet: Internet) -> Facts:
    """Return everything about a name; takes as long as the slowest answers."""
    async with asyncio.TaskGroup() as group:
        client = group.create_task(_client(name, internet))
        server = group.create_task(_server(name, internet))
        support = group.create_task(support_file(name, internet))
    return Facts(name, client.result(), server.result(), support.result())


async def support_file(name: ServerName, internet: Internet) -> Fetched:
    """Return what came of asking for the support file."""
    return await internet.get(f"https://{name.in_url}/.well-known/matrix/support")


def base_url_of(file: Fetched) -> str | None:
    """Return the homeserver's address that a client file names, if it is one."""
    url = text_of(object_of(file.json or {}, "m.homeserver"), "base_url", longest=LONGEST_URL)
    if url is None or any(sign.isspace() for sign in url):
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "https" and parts.hostname and not parts.query
        _ = parts.port
    except ValueError:
        return None
    return url.rstrip("/") if usable and not parts.fragment and "@" not in parts.netloc else None


async def _client(name: ServerName, internet: Internet) -> ClientFacts:
    file = await internet.get(f"https://{name.in_url}/.well-known/matrix/client")
    base = base_url_of(file) or f"https://{name}"
    parts = urlsplit(base)
    async with asyncio.TaskGroup() as group:
        versions = group.create_task(internet.get(f"{base}/_matrix/client/versions"))
        login = group.create_task(internet.get(f"{base}/_matrix/client/v3/login"))
        metadata = group.create_task(internet.get(f"{base}/_matrix/client/v1/auth_metadata"))
        certificate = group.create_task(
            internet.certificate(parts.hostname or name.host, parts.port or HTTPS_PORT)
        )
    return ClientFacts(
        file=file,
        base_url=base,
        versions=versions.result(),
        login=login.result(),
        auth_metadata=metadata.result(),
        certificate=certificate.result(),
    )


async def _server(name: ServerName, internet: Internet) -> ServerFacts:
    file = None
    if name.port is None and not name.is_literal:
        file = await internet.get(f"https://{name.in_url}/.well-known/matrix/server")
    delegation = await _delegation(name, file, internet)
    base = f"https://{delegation.name.in_url}:{delegation.port}"
    host = str(delegation.name)
    via = delegation.via

    async def certificate() -> Certificate | Refused:
        return await internet.certificate(delegation.name.host, delegation.port, via=via)

    async with asyncio.TaskGroup() as group:
        version = group.create_task(
            internet.get(f"{base}/_matrix/federation/v1/version", via=via, host=host)
        )
        keys = group.create_task(internet.get(f"{base}/_matrix/key/v2/server", via=via, host=host))
        shown = group.create_task(certificate())
    return ServerFacts(file, delegation, version.result(), keys.result(), shown.result())


async def _delegation(name: ServerName, file: Fetched | None, internet: Internet) -> Delegation:
    if file is None:
        return Delegation(name, By.NAME, name.port or FEDERATION_PORT)
    delegated = server_name_of((file.json or {}).get("m.server"))
    if delegated is not None and (delegated.port is not None or delegated.is_literal):
        port = delegated.port or FEDERATION_PORT
        return Delegation(delegated, By.FILE, port, named_by_file=True)
    host = delegated or name
    named = delegated is not None
    for by, service in ((By.SRV, "_matrix-fed._tcp"), (By.OLD_SRV, "_matrix._tcp")):
        records = await internet.srv(f"{service}.{host.host}")
        if records:
            return Delegation(host, by, records[0].port, via=records[0], named_by_file=named)
    by = By.FILE if named else By.DEFAULT
    return Delegation(host, by, FEDERATION_PORT, named_by_file=named)
