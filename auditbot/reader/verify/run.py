"""Verify an archive: the steps of the format's last chapter, streaming.

Memory holds the keys of the objects and a few segments, nothing that grows with the records.
"""

import asyncio
from dataclasses import dataclass

from msgspec import structs

from auditbot.reader.memory import Memory, Remembered, named_archive
from auditbot.reader.verify import ending
from auditbot.reader.verify.context import Context
from auditbot.reader.verify.cosigned import check_cosigned
from auditbot.reader.verify.described import check_described
from auditbot.reader.verify.fetching import Checkers
from auditbot.reader.verify.findings import Findings, Severity
from auditbot.reader.verify.foreign import check_foreign, check_strange
from auditbot.reader.verify.graph import Extent, GraphCheck
from auditbot.reader.verify.inventory import Inventory, newer_version, take_inventory
from auditbot.reader.verify.keyring import LyingKeys, read_keys, trusted_of
from auditbot.reader.verify.objects import Objects, settle_lost
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.servers import (
    Chosen,
    choose_keys,
    gone_servers,
    server_gone,
    strange_server,
)
from auditbot.reader.verify.statements import load_statements
from auditbot.reader.verify.streams import check_stream
from auditbot.reader.verify.succession import check_succession
from auditbot.storage.reading import Item, Place
from common.errors import PermanentError


async def verify(place: Place, options: Options, memory: Memory | None = None) -> list[Verified]:
    """Verify everything at a place; one result for each homeserver's archive.

    Of one that was seen here before, and is gone, there is a result too, unless there is nothing
    at all: the place may only be the wrong one, or not be mounted.

    Args:
        place: where the archive is
        options: what is to be verified, and how
        memory: what was seen before; it is kept up to date. Of what is wrong nothing is learnt
            but that the next verification has to look into everything

    Raises:
        TransientError: the place is away.
        PermanentError: the place, or the memory, cannot be read.
    """
    found, strange = await take_inventory(place)
    newer = await newer_version(place)
    if newer is not None and not found:
        raise PermanentError(newer)
    known = memory.servers_at(options.destination) if memory else {}
    servers = [await _server(place, inventory) for _, inventory in sorted(found.items())]
    chosen = choose_keys(
        options.fingerprints, {one.name: one.keys.known for one in servers}, known
    )
    if not found:
        return []
    results = [_gone(*item, options, memory) for item in gone_servers(found, known).items()]
    for server in servers:
        remembered, choice = known.get(server.name, Remembered()), chosen[server.name]
        outside = strange if server is servers[0] else []
        result = await _verify_server(place, server, options, remembered, choice, strange=outside)
        if newer is not None:
            result.findings.wrong("newer", "v2/", newer)
        if memory is not None and not choice.is_strange:
            after = _remembered_after(result, remembered, choice.named, options.now_ms)
            if after != remembered:
                memory.keep(f"{options.destination} {server.name}", after)
        results.append(result)
    return sorted(results, key=lambda result: result.server)


@dataclass(frozen=True, slots=True)
class _Server:
    """One server's archive before it is known what of it is trusted."""

    inventory: Inventory
    keys: LyingKeys
    findings: Findings

    @property
    def name(self) -> str:
        return self.inventory.server


async def _server(place: Place, inventory: Inventory) -> _Server:
    findings = Findings()
    return _Server(inventory, await read_keys(place, inventory, findings), findings)


def _gone(server: str, known: Remembered, options: Options, memory: Memory | None) -> Verified:
    """Return what is to be said of a server whose archive was here."""
    result = Verified(server)
    entry = named_archive(f"{options.destination} {server}")
    forget = f" If that is right, take “{entry}” out of “{memory.path}”." if memory else ""
    result.findings.wrong("server_gone", f"v1/{server}/", server_gone(server, known) + forget)
    return result


def _remembered_after(
    result: Verified, before: Remembered, named: tuple[str, ...], now_ms: int
) -> Remembered:
    """Return what is to be remembered: the keys that were named, and what was right."""
    if result.findings.counted[Severity.WRONG]:
        return before.doubted().trusting(named, result.fingerprints, is_right=False)
    found = tuple(sorted({*before.fingerprints, *result.fingerprints}))
    after = structs.replace(
        before,
        fingerprints=found,
        streams=result.streams,
        unlisted=result.unlisted,
        seen_ms=now_ms,
    )
    return after.trusting(named, result.fingerprints, is_right=True)


async def _verify_server(
    place: Place,
    server: _Server,
    options: Options,
    remembered: Remembered,
    choice: Chosen,
    *,
    strange: list[Item],
) -> Verified:
    inventory, findings = server.inventory, server.findings
    result = Verified(inventory.server, findings)
    if choice.is_strange:
        # Nothing in it says anything: what else is wrong with it would only hide this.
        result.findings = Findings()
        result.findings.wrong("strange_server", f"v1/{server.name}/", strange_server(server.name))
        check_strange(result.findings, strange)
        return result
    keyring = trusted_of(server.keys, choice.fingerprints, findings)
    result.fingerprints, result.first_use = keyring.anchors, keyring.first_use
    result.has_strange_key = not keyring.anchors and (
        bool(options.fingerprints) or remembered.named
    )
    statements = await load_statements(
        place, inventory, keyring.trust, findings, options.approvals
    )
    result.approvals = statements.approvals
    result.days = tuple(day for _, day in sorted(statements.days.items()))
    with GraphCheck() as graph, Checkers(keyring.server_name, options.identities) as checkers:
        context = Context(
            place, inventory, options, remembered, result, keyring, statements, graph
        )
        objects = Objects(context, checkers)
        async with asyncio.TaskGroup() as group:
            for stream in inventory.streams:
                await check_stream(context, stream, objects, group)
        await settle_lost(context)
        for remark in place.remarks:
            findings.notice("no_versions", f"v1/{inventory.server}/", remark)
        await _finish(context, strange)
        await asyncio.to_thread(graph.finish, findings, _extent(context))
        result.parents = graph.parents
    result.streams = ending.remembered_after(context, dict(remembered.streams))
    result.looked_ms = ending.older_looked_ms(context)
    _sort(findings)
    return result


async def _finish(context: Context, strange: list[Item]) -> None:
    if not context.inventory.manifests:
        context.findings.wrong(
            "no_manifest",
            f"v1/{context.inventory.server}/manifests/",
            "There is no manifest: nothing here can be verified.",
        )
    check_succession(context)
    ending.check_statements(context)
    ending.check_media(context)
    ending.check_sealed_to(context)
    ending.check_memory(context)
    ending.check_notes(context)
    check_cosigned(context)
    check_foreign(context)
    check_strange(context.findings, strange)
    await check_described(context)
    for key in sorted(context.result.unfit):
        context.findings.notice(
            "identity", key, "None of the identities that you named opens this: it is as signed."
        )
    ending.check_age(context)
    await ending.check_head(context)


def _extent(context: Context) -> Extent:
    """Return how much of the archive the check of the room graph has seen."""
    result, newest = context.result, context.newest
    is_complete = not (
        result.tombstones
        or result.erased_days
        or result.outside_only
        or result.findings.counted[Severity.WRONG]
        # What the writer recorded at another place is not missing to it.
        or any(finding.code == "stream_missing" for finding in result.findings.found)
    )
    return Extent(newest.created_ms if newest else 0, result.whole, is_complete)


def _sort(findings: Findings) -> None:
    """Put what is wrong first, in the order of the archive."""
    findings.found.sort(
        key=lambda item: (item.severity is not Severity.WRONG, _order(item.key), item.line or 0)
    )


def _order(key: str) -> tuple[str, str]:
    """Return what sorts objects by day, whatever folder they are in."""
    day = next((part for part in key.split("/") if part.startswith("dt=")), "dt=0")
    return day, key
