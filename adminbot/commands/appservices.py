"""Application services: the registrations that can be read here, without their secrets."""

from collections.abc import Sequence

from adminbot.bridges.appservices import Appservice, Unreadable, masked
from adminbot.bridges.known import OURS, appservices_of
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Bullets,
    Mono,
    Pill,
    Span,
    Spans,
    Table,
    answer,
    facts,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.bridges import BridgeRow, ListBridges
from common.errors import UserError
from common.homeserver.port import Permission
from common.i18n import Msg, t

MOST_SHOWN = 30


@command("appservice list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def appservice_list(own: OwnReader, settings: Settings) -> Answer:
    """List the application services whose registrations I can read; tokens are never shown."""
    found = appservices_of(settings.config)
    bridges = await own.read(ListBridges())
    rows = tuple(
        (
            Mono(one.id),
            Pill(one.bots[0]),
            Mono(one.url or "–"),
            _accounts(one),
            _reached(one, bridges),
        )
        for one in found
        if isinstance(one, Appservice)
    )
    said = answer(Table((t("Name"), t("Bot"), t("Address"), t("Accounts"), t("Reached")), rows))
    faulty: list[Spans] = [(one.why,) for one in found if isinstance(one, Unreadable)]
    if faulty:
        said = said.followed_by(say(t("Not readable:")), Bullets(tuple(faulty)))
    return said.followed_by(say(t("Details: appservice show NAME")))


@command("appservice show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def appservice_show(own: OwnReader, settings: Settings, caller: Caller, name: str) -> Answer:
    """Show an application service: its namespaces, its address, whether it is reached.

    Args:
        name: its id, as “appservice list” names it
    """
    known = [one for one in appservices_of(settings.config) if isinstance(one, Appservice)]
    one = next((each for each in known if each.id == name), None)
    if one is None:
        names = ", ".join(each.id for each in known)
        raise UserError(t("“{name}” is none of {known}.", name=name, known=names))
    bridge = _bridge(one, await own.read(ListBridges()))
    card = facts(
        [
            (t("Name"), Mono(one.id)),
            (t("Read from"), Mono(one.where)),
            (t("Sender"), Pill(one.sender)),
            (t("Bot"), Pill(one.bots[0])),
            (t("Bridge"), Mono(bridge.name) if bridge else None),
            (t("Address"), Mono(one.url) if one.url else t("none: nothing is sent to it")),
            (t("Protocols"), ", ".join(one.protocols) or None),
            (t("Limited in rate"), t("yes") if one.rate_limited else t("no")),
            (t("Reached"), _reached(one, [bridge] if bridge else [])),
            (t("Last looked at"), when(bridge.checked_ms, caller.now) if bridge else None),
            (t("Its token (as_token)"), masked(one.as_token_length)),
            (t("The homeserver's token (hs_token)"), masked(one.hs_token_length)),
        ]
    )
    rows = tuple(
        (_what(scope.what), Mono(scope.expression), _exclusive(exclusive=scope.exclusive))
        for scope in one.scopes[:MOST_SHOWN]
    )
    said = answer(card)
    if rows:
        said = said.followed_by(Table((t("Of what"), t("Expression"), ""), rows))
    if len(one.scopes) > len(rows):
        said = said.followed_by(say(t("… and {count} more", count=len(one.scopes) - len(rows))))
    return said


def _bridge(one: Appservice, bridges: Sequence[BridgeRow]) -> BridgeRow | None:
    return next((row for row in bridges if row.bot in one.bots), None)


def _accounts(one: Appservice) -> Span:
    users = [scope for scope in one.scopes if scope.what == "users"]
    if not users:
        return t("none")
    if all(scope.exclusive for scope in users):
        return t("its own alone")
    if any(scope.exclusive for scope in users):
        return t("some its own alone")
    return t("shared with others")


def _reached(one: Appservice, bridges: Sequence[BridgeRow]) -> Msg | str:
    row = _bridge(one, bridges)
    if one.url is None:
        return t("nothing is sent to it")
    if one.where == OURS:
        return t("“steward doctor” asks that")
    if row is None or row.up is None:
        return t("not known")
    if not row.up:
        return t("no: {why}", why=Mono(row.trouble or "?"))
    return t("yes") if row.ping_ms is None else t("within {ms} ms", ms=row.ping_ms)


def _what(what: str) -> Msg:
    words = {"users": t("accounts"), "aliases": t("addresses"), "rooms": t("rooms")}
    return words[what]


def _exclusive(*, exclusive: bool) -> Msg:
    return t("its own alone") if exclusive else t("shared with others")
