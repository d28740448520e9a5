"""How notices are planned: what they say, to whom, when and how fast."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from adminbot import schedule as rules
from adminbot.commands.audience import (
    only_people,
    open_accounts,
    read_users,
)
from adminbot.commands.schedules import adding, checked, told
from adminbot.engine.actor import Caller
from adminbot.engine.answer import (
    Block,
    Mono,
    answer,
    lasting,
    say,
    written,
)
from adminbot.engine.line import quote
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.server_steps import SendNotice
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Attached, Available, Settings
from adminbot.engine.text import cut
from adminbot.own.notices import (
    KeepNotice,
)
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.rooms import ListRoomMembers
from common.i18n import Msg, n, t
from common.ids import RoomId, UserId, server_of

AT_ONCE = 8
SHOWN_CHARACTERS = 600
_TEXT_TYPES = ("m.text", "m.notice")


@dataclass(frozen=True)
class Wish:
    """How a notice to many is to be sent."""

    exclude: str | None = None
    at: datetime | None = None
    rate: int | None = None
    preview: bool = False


@dataclass(frozen=True)
class Around:
    """What every one of these commands is handed."""

    admin: AdminReader
    own: OwnReader
    caller: Caller
    attached: Attached
    settings: Settings
    available: Available

    @property
    def server(self) -> str:
        """This server's name."""
        return self.settings.config.homeserver.server_name


async def to_many(
    around: Around, people: Iterable[UserId], audience: Msg, words: str, wish: Wish
) -> Plan:
    """Return the plan that sends a notice to many people, or to who asks as a preview."""
    content = await content_of(around.attached, words)
    caller = around.caller
    if wish.preview:
        return Plan(
            summary=t("Send yourself the notice"),
            steps=(
                kept(caller, content, t("a preview for {user}", user=caller.actor.user)),
                SendNotice(caller.command, caller.actor.user),
            ),
            report="notice",
        )
    left_out = read_users(wish.exclude, around.server)
    chosen = sorted(set(people) - left_out)
    if not chosen:
        raise UserError(t("That is nobody."))
    bulk = bulk_of(around.settings, wish.rate)
    return Plan(
        summary=n(
            "Send {audience} a notice: {count} person",
            "Send {audience} a notice: {count} people",
            len(chosen),
            audience=audience,
        ),
        steps=(
            kept(caller, content, audience),
            *(SendNotice(caller.command, user) for user in chosen),
        ),
        details=(*quoted_content(content), say(how_long(len(chosen), bulk))),
        bulk=bulk,
        report="notice",
        ask=True,
    )


async def later(
    around: Around, name: Sequence[str], words: str, wish: Wish, *, wordless: bool = False
) -> Plan:
    """Return a plan that schedules the same command without its time.

    ``wordless``: it need not say anything.
    """
    if not words.strip() and not wordless:
        raise UserError(t("What is sent later must be written out; a reply cannot be kept."))
    options: list[str] = []
    for option, value in (("--exclude", wish.exclude), ("--rate", wish.rate)):
        if value is not None:
            options += [option, quote(str(value))]
    if wish.preview:
        options.append("--preview")
    text, _ = checked(
        around.caller, around.available, around.settings, " ".join([*name, *options, words])
    )
    assert wish.at is not None  # noqa: S101  # only then are we called
    rule = rules.at(wish.at)
    zone = around.settings.config.adminbot.time_zone
    first = rules.next_after(rule, zone, begun=around.caller.now, after=around.caller.now)
    if first is None:
        raise UserError(t("That time is over; name one that is still to come."))
    step = adding(around.caller, around.settings, rule=rule, text=text, first=first)
    return Plan(
        summary=t("Give “{command}” {when}", command=Mono(text), when=told(rule, first)),
        steps=(step,),
        result=answer(t("It will be sent on {moment}.", moment=written(first))),
        report="scheduled",
        ask=True,
    )


async def in_rooms(around: Around, rooms: Iterable[RoomId]) -> list[UserId]:
    """Return the people of this server who are in at least one of some rooms."""
    members: set[UserId] = set()
    for room in rooms:
        try:
            members.update(await around.admin.read(ListRoomMembers(room)))
        except NotFoundError:
            continue
    local = {user for user in members if server_of(user) == around.server}
    accounts = [one for one in await open_accounts(around.admin) if one.name in local]
    return [one.name for one in await only_people(around.admin, around.own, accounts)]


async def content_of(attached: Attached, words: str) -> Mapping[str, Any]:
    """Return what is to be said, as a message: the words, or the message replied to."""
    if words.strip():
        return {"msgtype": "m.text", "body": words.strip(), "m.mentions": {}}
    quoted = await attached.quoted()
    body = None if quoted is None else quoted.content.get("body")
    if quoted is None or not isinstance(body, str) or not body.strip():
        raise UserError(t("Say what it is to say, or reply to a message that says it."))
    if quoted.content.get("msgtype") not in _TEXT_TYPES:
        raise UserError(t("Only a text can be sent as a notice."))
    content: dict[str, Any] = {"msgtype": "m.text", "body": body, "m.mentions": {}}
    html = quoted.content.get("formatted_body")
    if quoted.content.get("format") == "org.matrix.custom.html" and isinstance(html, str):
        content |= {"format": "org.matrix.custom.html", "formatted_body": html}
    return content


def kept(caller: Caller, content: Mapping[str, Any], audience: str) -> KeepNotice:
    """Return the step that keeps what a notice says, named after the command."""
    return KeepNotice(caller.command, caller.actor.user, str(audience), content, ms(caller.now))


def quoted_content(content: Mapping[str, Any]) -> tuple[Block, ...]:
    """Return what a notice says, for the question."""
    return (say(t("It says:")), say(Mono(cut(str(content["body"]), SHOWN_CHARACTERS))))


def bulk_of(settings: Settings, rate: int | None) -> Bulk:
    """Return how many people a second a notice goes to."""
    if rate is not None and rate < 1:
        raise UserError(t("The rate is a number of people a second, from 1."))
    per_second = float(rate or settings.config.adminbot.notices_per_second)
    return Bulk(at_once=AT_ONCE, per_second=per_second)


def how_long(people: int, bulk: Bulk) -> Msg:
    """Return how long that takes at least."""
    rate = bulk.per_second or 1.0
    shown = f"{rate:.0f}" if rate % 1 == 0 else f"{rate:g}"
    return t(
        "To {rate} people a second, which takes {span} or longer.",
        rate=shown,
        span=lasting(timedelta(seconds=int(people / rate) + 1)),
    )


def ms(moment: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return int(moment.timestamp() * 1000)
