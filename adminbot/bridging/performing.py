"""Carrying out the steps of plans about bridges."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from adminbot.bridges.hearing import Done
from adminbot.bridges.instance import Bridge, unknown_bridge
from adminbot.bridges.kind import SELF_SERVICE, Command
from adminbot.bridges.steps import (
    HoldToLimits,
    PrepareRoom,
    ProbeBridge,
    RemoveOldBot,
    SpeakForPerson,
    SpeakToBridge,
    WriteConnection,
)
from adminbot.bridging.accounts import Account
from adminbot.bridging.connections import Connections
from adminbot.bridging.provisioning import ProvisioningApi, UnfitError
from adminbot.bridging.recognising import Recognising
from adminbot.bridging.registry import Registry
from adminbot.bridging.showing import CodeShower
from adminbot.bridging.speaking import (
    Conversation,
    Speaking,
    UnknownWordsError,
    expected_words,
    hand_off,
    spellings,
)
from adminbot.bridging.stopping import Closing
from adminbot.bridging.upkeep import Upkeep
from adminbot.engine.answer import Mono, answer, say
from adminbot.telling import Telling
from common.clock import Clock
from common.config.secret import Secret
from common.database.pool import Database
from common.errors import StewardError
from common.homeserver.client import AdminClient
from common.homeserver.synapse.users import GetUser
from common.i18n import Msg, t
from common.ids import RoomId, UserId
from common.matrix.client import MatrixClient
from common.telemetry.log import Log

MOST_UNDER_WAY = 4

Perform = Callable[[Any, str], Awaitable[str | None]]

log = Log("adminbot.bridges")


@dataclass(frozen=True)
class Performing:
    """What the steps need."""

    registry: Registry
    speaking: Speaking
    closing: Closing
    upkeep: Upkeep
    connections: Connections
    telling: Telling
    admin: AdminClient
    client: MatrixClient
    database: Database
    clock: Clock
    acting_token: Secret | None = None
    under_way: set[UserId] = field(default_factory=set)
    """Who has something of their own under way; each waits for a person and a bridge."""

    def performers(self) -> Mapping[type, Perform]:
        """Return who carries out which kind of step."""
        return {
            PrepareRoom: self._prepare,
            SpeakToBridge: self._speak,
            SpeakForPerson: self._speak_for,
            ProbeBridge: self._probe,
            HoldToLimits: self._hold,
            WriteConnection: self.connections.write,
            RemoveOldBot: self.connections.remove_bot,
        }

    async def _prepare(self, step: PrepareRoom, key: str) -> str | None:
        del key
        account = self._own()
        await account.prepare(step.room, step.bot)
        bridge = self.registry.bridges.get(step.bridge)
        if bridge is not None and bridge.kind.family not in {"heisenbridge", "irc"}:
            # Those come when they are told to, with the command itself.
            await account.wait_for(step.room, step.bot)
        return None

    async def _speak(self, step: SpeakToBridge, key: str) -> str | None:
        if step.verb in SELF_SERVICE:
            raise StewardError(t("What is somebody’s own is never done for them."))
        arguments = self._arguments(step.arguments, step.room)

        async def speak(bridge: Bridge, command: Command, key: str) -> Done:
            return await self._carried_out(
                Conversation(
                    bridge=bridge,
                    command=command,
                    account=self._own(),
                    arguments=arguments,
                    room=step.room,
                    key=key,
                    tell=partial(self._tell, step.asked_by, key),
                )
            )

        bridge, _, done = await self._understood(step, key, self._own(), speak)
        await self.upkeep.answered(bridge)
        await self._remember_room(step.verb, bridge, step.room, arguments, step.asked_by)
        return done.text or None

    async def _speak_for(self, step: SpeakForPerson, key: str) -> str | None:
        if step.person in self.under_way:
            raise StewardError(t("You have something with a bridge under way; finish that first."))
        if len(self.under_way) >= MOST_UNDER_WAY:
            # Each takes the place of another job for minutes.
            raise StewardError(
                t("Too many people are at it just now; try again in a few minutes.")
            )
        self.under_way.add(step.person)
        try:
            return await self._speak_for_one(step, key)
        finally:
            self.under_way.discard(step.person)

    async def _speak_for_one(self, step: SpeakForPerson, key: str) -> str | None:
        arguments = self._arguments(step.arguments, step.about)
        bridge, command = self._command(step.bridge, step.verb)
        done = None
        if step.verb == "login" and bridge.settings.provisioning is not None:
            try:
                done = await self._provisioned_login(bridge, step, arguments, key)
            except UnfitError as error:
                # The next best way: in the person's own chat with the bot.
                log.info("a log-in goes on in a chat", bridge=bridge.name, reason=error)
        if done is None:
            account = await self._account_for(step.person)

            async def speak(bridge: Bridge, command: Command, key: str) -> Done:
                if account is not None and _can_be_typed_for(command):
                    return await self._acting(
                        bridge, command, step, arguments, key, account=account
                    )
                return await self._handed_off(bridge, command, step, arguments, key)

            bridge, command, done = await self._understood(
                step, key, account or self._own(), speak
            )
        await self.upkeep.answered(bridge)
        await self._remember_login(step.verb, bridge, step.person, done)
        await self._remember_room(step.verb, bridge, step.about, arguments, step.person)
        return _personal(step.verb, command, done)

    async def _provisioned_login(
        self, bridge: Bridge, step: SpeakForPerson, arguments: Mapping[str, str], key: str
    ) -> Done:
        assert bridge.settings.provisioning is not None  # noqa: S101  # looked at by the caller
        api = ProvisioningApi(
            self.client.session, bridge, bridge.settings.provisioning, step.person
        )
        shower = CodeShower(self.telling, self.database, self.clock, step.person, key)
        await self._tell(step.person, key, *bridge.kind.notes.before_login())
        stopped = partial(self.closing.stopped, key)
        done = await api.log_in(arguments.get("flow"), shower.show, stopped)
        return Done(done.said, {"remote": done.remote})

    async def _acting(
        self,
        bridge: Bridge,
        command: Command,
        step: SpeakForPerson,
        arguments: Mapping[str, str],
        key: str,
        *,
        account: Account,
    ) -> Done:
        """Type the words in the person's name, in their own chat with the bot."""
        if command.steps[0].where == "chat":
            chat = await account.chat_with(bridge.name, bridge.kind, bridge.bot)
            link = f"https://matrix.to/#/{chat}"
            await self._tell(
                step.person,
                key,
                t(
                    "I type it for you in your chat with {bot}; look there for what it shows: {chat}",
                    bot=bridge.bot,
                    chat=link,
                ),
                *_beforehand(bridge, command, step.verb),
            )
        return await self._carried_out(
            Conversation(
                bridge=bridge,
                command=command,
                account=account,
                arguments=arguments,
                room=step.about,
                key=key,
                tell=partial(self._tell, step.person, key),
            )
        )

    async def _handed_off(
        self,
        bridge: Bridge,
        command: Command,
        step: SpeakForPerson,
        arguments: Mapping[str, str],
        key: str,
    ) -> Done:
        """Tell the person the exact words, wait until they typed them, follow the answer."""
        words = expected_words(bridge, command, arguments)
        bot = f"https://matrix.to/#/{bridge.bot}"
        match command.steps[0].where:
            case "room" if step.about:
                where = t("in the room {room}", room=step.about)
            case "network":
                where = t(
                    "in the room of the network, which {bot} opened for you (“bridge login "
                    "{bridge} --network …” opens it)",
                    bot=bot,
                    bridge=bridge.name,
                )
            case _:
                where = t("in a direct chat with {bot}", bot=bot)
        said = answer(
            say(t("Type this {where}; I wait for what the bridge answers:", where=where)),
            say(Mono(words)),
            *_beforehand(bridge, command, step.verb),
        )
        talk = Conversation(
            bridge=bridge,
            command=command,
            account=self._account(self.client, step.person),
            arguments=arguments,
            room=step.about,
            key=key,
            tell=partial(self._tell, step.person, key),
        )
        say_what = partial(self.telling.to_person, step.person, said, key=f"{key}-words")
        rooms = (step.about,) if step.about else ()
        expected = spellings(bridge, words)
        return await self.closing.unless_cancelled(
            talk, lambda: hand_off(self.speaking, talk, expected, rooms, say_what)
        )

    async def _carried_out(self, talk: Conversation) -> Done:
        return await self.closing.unless_cancelled(talk, lambda: self.speaking.carry_out(talk))

    async def _probe(self, step: ProbeBridge, key: str) -> str | None:
        bridge = self._bridge(step.bridge)
        seen = await self.upkeep.check(bridge)
        said = [_seen(seen.up, seen.ping_ms, seen.trouble)]
        if bridge.vocabulary.command("ping") is not None and bridge.kind.chat != "none":
            talk = Conversation(
                bridge=bridge,
                command=_required(bridge, "ping"),
                account=self._own(),
                arguments={},
                room=None,
                key=key,
                tell=partial(self._tell, None, key),
            )
            started = self.clock.monotonic()
            done = await self._carried_out(talk)
            await self.upkeep.answered(bridge)
            milliseconds = round((self.clock.monotonic() - started) * 1000)
            said.append(
                t("Its bot answered after {ms} ms: {text}", ms=milliseconds, text=done.text)
            )
        return " ".join(said)

    async def _hold(self, step: HoldToLimits, key: str) -> str | None:
        """Do now what an admin's decision means, instead of at the next look."""
        del key
        await self.registry.refresh()
        await self.upkeep.limits.look(self._bridge(step.bridge))
        return None

    async def _understood(
        self,
        step: SpeakToBridge | SpeakForPerson,
        key: str,
        account: Account,
        speak: Callable[[Bridge, Command, str], Awaitable[Done]],
    ) -> tuple[Bridge, Command, Done]:
        """Speak, and once more in the words of another version if the bridge knows those."""
        bridge, command = self._command(step.bridge, step.verb)
        try:
            return bridge, command, await speak(bridge, command, key)
        except UnknownWordsError:
            asking = Recognising(self.registry, self._carried_out)
            other = await asking.other_words(bridge, account, key)
            if other is None:
                raise
        command = _required(other, step.verb)
        return other, command, await speak(other, command, f"{key}-again")

    async def _account_for(self, person: UserId) -> Account | None:
        """Return somebody's own hands, if we may type in their name.

        That has to be configured, and is never done for a server admin.
        """
        if self.acting_token is None or (await self.admin.read(GetUser(person))).admin:
            return None
        return self._account(self.client.acting_as(person, self.acting_token))

    def _command(self, name: str, verb: str) -> tuple[Bridge, Command]:
        bridge = self._bridge(name)
        return bridge, _required(bridge, verb)

    def _bridge(self, name: str) -> Bridge:
        bridge = self.registry.bridges.get(name)
        if bridge is None:
            raise StewardError(unknown_bridge(name, self.registry.bridges))
        return bridge

    def _own(self) -> Account:
        return self._account(self.client)

    def _account(self, client: MatrixClient, user: UserId | None = None) -> Account:
        return Account(client, self.admin, self.database, self.clock, on_behalf_of=user)

    def _arguments(
        self, given: tuple[tuple[str, str], ...], room: RoomId | None
    ) -> dict[str, str]:
        return {**({"room": room} if room else {}), **dict(given)}

    async def _tell(self, person: UserId | None, key: str, *lines: str) -> None:
        if person is not None and lines:
            said = answer(*lines)
            # Named after the words: a question that is asked twice is told twice, a retry once.
            name = f"{key}-told-{hashlib.sha256(repr(lines).encode()).hexdigest()[:12]}"
            await self.telling.to_person(person, said, key=name)

    async def _remember_login(self, verb: str, bridge: Bridge, person: UserId, done: Done) -> None:
        if verb not in {"login", "logout"}:
            return
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO bridge_login (bridge, user_id, remote, state, at_ms)"
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (bridge, user_id) DO UPDATE SET"
                " remote = COALESCE(excluded.remote, bridge_login.remote),"
                " state = excluded.state, at_ms = excluded.at_ms",
                bridge.name,
                person,
                done.found.get("remote"),
                "in" if verb == "login" else "out",
                self.clock.now_ms(),
            )

    async def _remember_room(
        self,
        verb: str,
        bridge: Bridge,
        room: RoomId | None,
        arguments: Mapping[str, str],
        by: UserId,
    ) -> None:
        if room is None or verb not in {"connect", "disconnect"}:
            return
        async with self.database.transaction() as connection:
            if verb == "disconnect":
                await connection.execute(
                    "DELETE FROM bridge_room WHERE bridge = $1 AND room_id = $2", bridge.name, room
                )
                return
            await connection.execute(
                "INSERT INTO bridge_room (bridge, room_id, network, remote, connected_by, seen_ms)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (bridge, room_id) DO UPDATE SET"
                " network = excluded.network, remote = excluded.remote,"
                " connected_by = excluded.connected_by",
                bridge.name,
                room,
                arguments.get("network"),
                arguments.get("remote"),
                by,
                self.clock.now_ms(),
            )
        self.upkeep.watch.rooms.setdefault(room, set()).add(bridge.name)


def _can_be_typed_for(command: Command) -> bool:
    """Say whether we find the rooms that a command is typed in; a person's networks we do not."""
    return all(step.where != "network" for step in command.steps)


def _beforehand(bridge: Bridge, command: Command, verb: str) -> tuple[Msg, ...]:
    """Return what somebody has to know before words are typed by them or for them."""
    if verb == "login":
        return (*bridge.kind.notes.before_login(), *command.noted())
    return command.noted()


def _personal(verb: str, command: Command, done: Done) -> str | None:
    """Return what may be repeated of a personal answer: never a link or a code."""
    if any(step.shows == "link" for step in command.steps):
        return t("The bridge sent a link into your chat with it; follow it there.")
    if verb == "login":
        remote = done.found.get("remote")
        return (
            t("You are logged in as {remote}.", remote=remote)
            if remote
            else t("You are logged in.")
        )
    return done.text or None


def _required(bridge: Bridge, verb: str) -> Command:
    command = bridge.vocabulary.command(verb)
    if command is None:
        raise StewardError(
            t("{kind} has no words for “{verb}”.", kind=bridge.kind.name, verb=verb)
        )
    return command


def _seen(up: bool | None, ping_ms: int | None, trouble: str | None) -> str:  # noqa: FBT001  # a finding
    if up is None:
        return t("Whether the homeserver reaches it is not known.")
    if not up:
        return t("The homeserver cannot reach it: {why}", why=trouble or "?")
    if ping_ms is None:
        return t("It is up.")
    return t("The homeserver reaches it in {ms} ms.", ms=ping_ms)
