"""Finding accounts by the address or device that they were used from."""

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network

from adminbot.engine.actor import Caller
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Table,
    answer,
    csv_file,
    lately,
    moment_of,
    written,
)
from adminbot.engine.network import LONGEST, keys_of, network_of
from adminbot.engine.paging import page_of, paged
from adminbot.engine.step import OwnReader
from adminbot.engine.text import joined
from adminbot.engine.values import Csv, Page
from adminbot.own.seen_from import MOST, SeenAt, SeenFromSince, SeenOn
from common.errors import UserError
from common.i18n import Msg, n, t

_COLUMNS = ("user", "address", "device", "user_agent", "last_ms")
# What can only be meant as an address: a name has no such form.
_LIKE_AN_ADDRESS = re.compile(
    r"([0-9]+(\.[0-9]+){3}|[0-9a-fA-F.]*(:[0-9a-fA-F.]*){2,}(%[a-z0-9]+)?)(/.*)?"
)


def network_meant(what: str) -> IPv4Network | IPv6Network | None:
    """Return the address or network that is looked for; ``None`` if something else is."""
    found = network_of(what)
    if found is None and len(what) <= LONGEST and _LIKE_AN_ADDRESS.fullmatch(what):
        raise UserError(t("{what} is no IP address and no network of them.", what=Mono(what)))
    return found


async def seen_from(
    own: OwnReader,
    caller: Caller,
    days: int,
    what: IPv4Network | IPv6Network | str,
    *,
    page: Page,
    csv: Csv,
) -> Answer:
    """Return who was seen at an address or in a network; or on a device, by its ID or words."""
    if not days:
        raise UserError(
            t(
                "I keep no addresses and devices: adminbot.seen_from_days is 0 in the configuration."
            )
        )
    query = SeenOn(what) if isinstance(what, str) else SeenAt(*keys_of(what))
    found = await own.read(query)
    kept = _kept(caller, days, await own.read(SeenFromSince()))
    if not found:
        raise UserError(joined((t("Nobody was seen there."), kept), " "))
    in_all = n("{count} line in all.", "{count} lines in all.", len(found))
    more = [kept]
    if len(found) >= MOST:
        more.append(t("Only the last {most} are shown; look for less.", most=MOST))
    if csv:
        rows = ((one.user, one.address, one.device, one.user_agent, one.last_ms) for one in found)
        return answer(in_all, *more).with_file(csv_file("seen.csv", _COLUMNS, rows))
    shown = tuple(
        (
            Pill(one.user),
            Mono(one.address),
            Mono(one.device),
            lately(one.last_ms, caller.now) or "",
        )
        for one in page_of(found, page)
    )
    columns = (t("User"), t("Address"), t("Session"), t("Last seen"))
    return answer(Table(columns, shown), paged(in_all, len(found), page), *more)


def _kept(caller: Caller, days: int, since_ms: int | None) -> Msg:
    since = moment_of(since_ms) if since_ms else None
    if since is None:
        return t("Addresses and devices are not written down yet; ask again in a few minutes.")
    since = max(since, caller.now - timedelta(days=days))
    return n(
        "Addresses and devices are written down since {since} and kept for {count} day; who was "
        "not seen in that time is not found.",
        "Addresses and devices are written down since {since} and kept for {count} days; who was "
        "not seen in that time is not found.",
        days,
        since=written(since),
    )
