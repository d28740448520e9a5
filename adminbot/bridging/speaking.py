"""One conversation with a bridge's bot, from the first words to success, refusal or silence.

The promise: words are typed once, by whom they concern; what the bot answers is told as it is;
a bot that says nothing is named as such, with what the homeserver knows of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from adminbot.bridges.arguments import spoken
from adminbot.bridges.hearing import (
    Asked,
    Done,
    Failed,
    Meaning,
    Puzzling,
    Silent,
    Unknown,
    Unreadable,
    Waiting,
    meaning,
)
from adminbot.bridges.instance import Bridge
from adminbot.bridges.kind import Command, Step
from adminbot.bridging.accounts import Account
from adminbot.bridging.ears import Ears, Listener
from common.clock import Clock
from common.errors import StewardError
from common.i18n import Msg, t
from common.ids import EventId, RoomId

LOOK_AGAIN_SECONDS = 0.5
INVITATION_SECONDS = 15.0
HAND_OFF_SECONDS = 600.0
MOST_REPLIES = 5
LONGEST_QUOTE = 1500

Tell = Callable[[str], Awaitable[None]]
WhySilent = Callable[[Bridge], Awaitable[str]]


class UnknownWordsError(StewardError):
    """The bridge does not know the command: it speaks another version's words."""


@dataclass
class Conversation:
    """A command being carried out; ``found`` collects what the bot's answers remembered."""

    bridge: Bridge
    command: Command
    account: Account
    arguments: Mapping[str, str]
    room: RoomId | None
    key: str
    tell: Tell
    found: dict[str, str] = field(default_factory=dict)
    place: RoomId | None = None
    """Where something was typed last; ``None`` before."""


@dataclass(frozen=True)
class Speaking:
    """Has conversations. ``why_silent`` says what else is known of a bridge that says nothing."""

    ears: Ears
    clock: Clock
    why_silent: WhySilent
    _in_turn: "WeakValueDictionary[tuple[str, str], asyncio.Lock]" = field(
        default_factory=WeakValueDictionary
    )

    async def carry_out(self, talk: Conversation) -> Done:
        """Type a command's words and follow the answers; one of an account's at a time.

        Raises:
            StewardError: the bridge refused, asked what nobody can answer, or said nothing.
        """
        who = (talk.bridge.name, talk.account.user)
        turn = self._in_turn.setdefault(who, asyncio.Lock())
        async with turn:
            return await self._carry_out(talk)

    async def _carry_out(self, talk: Conversation) -> Done:
        last = Done("", {})
        for number, step in enumerate(talk.command.steps):
            place = await self._place(talk, step)
            with self.ears.listening(talk.bridge.bot, talk.account.user, place) as listener:
                words = spoken(talk.bridge.kind, step, talk.arguments)
                talk.place = place
                await talk.account.say(place, words, key=f"{talk.key}-{number}")
                last = await self.follow(talk, step, listener, place)
                talk.found.update(last.found)
                if step.where == "chat" and _goes_on_in_network(talk.command):
                    await self._remember_network(talk, listener)
        return last

    async def follow(
        self, talk: Conversation, step: Step, listener: Listener, place: RoomId
    ) -> Done:
        """Wait for what one step's answers mean; answer what can be answered."""
        since = self.clock.monotonic()
        answered: set[EventId] = set()
        while True:
            seen = listener.heard.count
            now = self.clock.monotonic()
            found = meaning(
                step,
                talk.bridge.kind.unknown,
                listener.said,
                waited=now - since,
                now=now,
                answered=frozenset(answered),
            )
            if isinstance(found, Done):
                return found
            if isinstance(found, Asked):
                if len(answered) >= MOST_REPLIES:
                    raise StewardError(
                        t("The bridge goes on asking: {text}", text=_quote(found.text))
                    )
                answered.add(found.event)
                await self._answer(talk, found, place, len(answered), links=step.shows == "link")
                since = self.clock.monotonic()
                continue
            if isinstance(found, Unknown):
                raise UnknownWordsError(_other_words(talk, found))
            if not isinstance(found, Waiting):
                raise StewardError(await self._trouble(talk, found))
            await listener.heard.changed(seen, timeout_seconds=LOOK_AGAIN_SECONDS)

    async def _answer(
        self, talk: Conversation, asked: Asked, place: RoomId, number: int, *, links: bool
    ) -> None:
        if asked.reply is None and links:
            # Whoever has it can log in as who follows it: it stays where the bridge put it.
            await talk.tell(t("The bridge sent a link into your chat with it; follow it there."))
            return
        if asked.reply is None:
            await talk.tell(
                t(
                    "The bridge asks you, in your chat with it: {text}",
                    text=_quote(asked.text),
                )
            )
            return
        prefix = talk.bridge.kind.prefix
        words = asked.reply if prefix is None else f"{prefix} {asked.reply}"
        await talk.account.say(place, words, key=f"{talk.key}-reply{number}-{asked.event}")

    async def _trouble(self, talk: Conversation, found: Meaning) -> str:
        match found:
            case Failed(text=text):
                return t("The bridge says: {text}", text=_quote(text))
            case Puzzling(text=text):
                return t("The bridge answered something unexpected: {text}", text=_quote(text))
            case Unreadable():
                chat = f"https://matrix.to/#/{talk.place}"
                return t(
                    "{bot} answered, but that chat is encrypted, and what a bridge says there I "
                    "do not read; look there: {chat}",
                    bot=talk.bridge.bot,
                    chat=chat,
                )
            case Silent(seconds=seconds):
                return t(
                    "{bot} did not answer in {seconds} seconds. {why}",
                    bot=talk.bridge.bot,
                    seconds=round(seconds),
                    why=await self.why_silent(talk.bridge),
                )
            case _:
                return t("The conversation ended without a result.")

    async def _place(self, talk: Conversation, step: Step) -> RoomId:
        match step.where:
            case "room":
                if talk.room is None:
                    raise StewardError(t("This is about a room; say which."))
                return talk.room
            case "network":
                place = await talk.account.place(talk.bridge.name, _network(talk))
                if place is None:
                    raise StewardError(t("The bridge opened no room for this network."))
                return place
            case _ if talk.command.by == "adminbot" and talk.bridge.settings.admin_room:
                room = RoomId(talk.bridge.settings.admin_room)
                await talk.account.enter(room)
                return room
            case _:
                return await talk.account.chat_with(
                    talk.bridge.name, talk.bridge.kind, talk.bridge.bot
                )

    async def _remember_network(self, talk: Conversation, listener: Listener) -> None:
        """Keep the room that the bot opened for a network: it named it, or invites into it."""
        named = talk.found.get("network_room")
        room = RoomId(named) if named else await self._invitation(talk, listener)
        await talk.account.enter(room)
        await talk.account.remember(talk.bridge.name, _network(talk), room)

    async def _invitation(self, talk: Conversation, listener: Listener) -> RoomId:
        wanted = talk.arguments["network"].lower()
        until = self.clock.monotonic() + INVITATION_SECONDS
        looked_at = 0
        while self.clock.monotonic() < until:
            seen = listener.heard.count
            for room in listener.invited_to[looked_at:]:
                looked_at += 1
                await talk.account.enter(room)
                name = await talk.account.name_of(room)
                if name is not None and name.lower() == wanted:
                    return room
            await listener.heard.changed(seen, timeout_seconds=LOOK_AGAIN_SECONDS)
        raise StewardError(t("The bridge sent no invitation to a room for this network."))


async def hand_off(
    speaking: Speaking,
    talk: Conversation,
    expected: frozenset[str],
    rooms: tuple[RoomId, ...],
    say_what: Callable[[], Awaitable[object]],
) -> Done:
    """Say what to type, wait until the person has typed it, then follow the answers.

    Raises:
        StewardError: they did not, or as in ``Speaking.carry_out``.
    """
    step = talk.command.steps[0]
    with speaking.ears.listening(
        talk.bridge.bot, talk.account.user, *rooms, expected=expected
    ) as listener:
        await say_what()  # now: they may type it at once
        try:
            async with asyncio.timeout(HAND_OFF_SECONDS):
                while listener.typed_in is None:
                    seen = listener.heard.count
                    await listener.heard.changed(seen)
        except TimeoutError:
            raise StewardError(
                t(
                    "I did not see you type it. In an encrypted chat I cannot; then look there "
                    "for what the bridge answers."
                )
            ) from None
        talk.place = listener.typed_in
        return await speaking.follow(talk, step, listener, listener.typed_in)


def expected_words(bridge: Bridge, command: Command, arguments: Mapping[str, str]) -> str:
    """Return what somebody has to type for a command's first step."""
    return spoken(bridge.kind, command.steps[0], arguments)


def spellings(bridge: Bridge, words: str) -> frozenset[str]:
    """Return the ways in which somebody may type words: with and without the prefix."""
    plain = " ".join(words.split()).lower()
    prefix = bridge.kind.prefix
    bare = plain.removeprefix(f"{prefix} ".lower()) if prefix else plain
    return frozenset({plain, bare})


def _other_words(talk: Conversation, found: Unknown) -> Msg:
    said = t(
        "The bridge does not know this command in the words “{vocabulary}”: {text}",
        vocabulary=talk.bridge.vocabulary.name,
        text=_quote(found.text),
    )
    others = [one.name for one in talk.bridge.kind.vocabularies if one != talk.bridge.vocabulary]
    if not others:
        return said
    return t(
        "{said} — a server admin can choose others: bridge words {name} {words}",
        said=said,
        name=talk.bridge.name,
        words="|".join(others),
    )


def _goes_on_in_network(command: Command) -> bool:
    return any(step.where == "network" for step in command.steps)


def _network(talk: Conversation) -> str:
    return f"network:{talk.arguments.get('network', '').lower()}"


def _quote(text: str) -> str:
    """Return a bot's words, short enough to be repeated."""
    short = text.strip()
    return short if len(short) <= LONGEST_QUOTE else f"{short[:LONGEST_QUOTE]}…"
