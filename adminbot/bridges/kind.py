"""What a kind of bridge is: how its bot is spoken to and what it answers, as data.

One YAML file a kind, in ``kinds/``; what several kinds share stands in ``families/``. Every
text is what the named source documents or what was seen of the running program.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from common.i18n import Msg, whole

Text = Annotated[str, Meta(min_length=1, max_length=512)]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,39}$")]
Phrases = tuple[Text, ...]

Family = Literal[
    "bridgev2", "mautrix", "heisenbridge", "irc", "slack", "discord", "hookshot", "commands"
]
Place = Literal["chat", "network", "room"]
"""Where words are typed: the chat with the bot, a chat it opened for a network, the room."""

Shows = Literal["qr", "code", "link"]
Ends = Literal["said", "gathered", "left", "invited"]
"""What ends a step: a phrase, a pause after several messages, the bot's leaving the room, or its
inviting whoever typed into another one."""

VERBS = frozenset(
    {
        "ping", "login", "logout", "pm", "sync", "joinspace", "guilds", "connect", "disconnect",
        "relay", "unrelay", "relay-bot", "webhook", "github", "cancel", "allow", "deny",
    }
)  # fmt: skip
"""What can be asked of a bridge; each kind has words for some of these."""

SELF_SERVICE = frozenset({"login", "logout", "pm", "sync", "joinspace", "guilds"})
"""What concerns a person's own account at the remote network: never done for another."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question in the middle of a command. Without a reply the person has to answer it."""

    hears: Text
    reply: str | None = None
    secret: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words typed to the bot, and what its answers mean.

    In ``say``, ``{name}`` is replaced by an argument, ``{name?}`` by one that may be left out, and
    ``{name=word}`` by that word where it is left out.
    """

    say: Text
    where: Place = "chat"
    done: Phrases = ()
    failed: Phrases = ()
    asks: tuple[Ask, ...] = ()
    shows: Shows | None = None
    reaction: str | None = None
    ends: Ends = "said"
    timeout_seconds: Annotated[float, Meta(gt=0, le=900)] = 30


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one verb is carried out. ``by`` is whose account types the words.

    What removes people from rooms, or acts for others, is no verb and is never typed.
    """

    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=8)]
    by: Literal["adminbot", "person"] = "adminbot"
    example: str | None = None
    note: str | None = None

    def noted(self) -> tuple[Msg, ...]:
        """Return what to know beforehand, still to be translated."""
        return () if self.note is None else (whole(self.note),)


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words of a range of versions.

    ``recognised_by`` are phrases of the bot's own help text that no other vocabulary has;
    ``like`` names a file in ``families/`` whose commands these join and replace.
    """

    name: Name
    versions: Text
    like: Name | None = None
    recognised_by: Phrases = ()
    unknown: Phrases = ()
    commands: Mapping[str, Command | None] = {}

    def command(self, verb: str) -> Command | None:
        """Return how a verb is said, if this vocabulary has words for it."""
        return self.commands.get(verb)


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bridge itself can limit.

    ``own`` is the option of the bridge's own limit of active remote users, ``blocked_metric``
    the figure in its metrics that tells that it is in force.
    """

    own: Text | None = None
    blocked_metric: Text | None = None


class Endpoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths at the bridge's own HTTP address; ``ready_is_true``: whether ``ready`` can be trusted.

    ``metrics`` often listens elsewhere; it is looked for only where an operator says so.
    ``figures`` are those of its metrics that tell an admin something.
    """

    live: Text | None = None
    ready: Text | None = None
    ready_is_true: bool = True
    metrics: Text | None = None
    figures: Phrases = ()
    provisioning: Literal["v1", "v3"] | None = None
    provisioning_prefix: Text | None = None


class Warnings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sentences for people: before a log-in, and generally."""

    login: tuple[str, ...] = ()
    general: tuple[str, ...] = ()

    def before_login(self) -> tuple[Msg, ...]:
        """Return what to know before a log-in, still to be translated."""
        return tuple(whole(each) for each in self.login)

    def in_general(self) -> tuple[Msg, ...]:
        """Return what to know of the kind, still to be translated."""
        return tuple(whole(each) for each in self.general)


_NO_PERMISSIONS = "Look into its own documentation for who may use it."


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of bridge."""

    id: Name
    name: Text
    network: Text
    family: Family
    driven: Literal["real", "script"]
    """Whether its words were tried on the running program, or come from its source or pages."""

    sources: Annotated[tuple[Text, ...], Meta(min_length=1)]
    bots: Annotated[Phrases, Meta(min_length=1)]
    """Usual local parts of its bot."""

    ghosts: Phrases = ()
    """Usual local parts of bridged people, ``*`` for any characters; a registration is better."""

    protocols: Phrases = ()
    """How it names itself in ``m.bridge`` events (MSC2346) and to ``thirdparty/protocols``."""

    prefix: str | None = None
    """Put before every command, in the chat with the bot too; ``None``: words stand alone."""

    chat: Literal["two_members", "stored", "any", "none"] = "any"
    """Which room it takes for a person's own chat with it."""

    forbidden: str = ""
    """Characters that no argument may have, because they begin another command."""

    permissions: Text | None = None
    """Where its own configuration says who may use it, as a sentence for admins."""

    limits: Limits = Limits()
    endpoints: Endpoints = Endpoints()
    notes: Warnings = Warnings()
    vocabularies: Annotated[tuple[Vocabulary, ...], Meta(min_length=1, max_length=8)]

    def who_may(self) -> Msg:
        """Return where to say who may use it, still to be translated."""
        return whole(self.permissions or _NO_PERMISSIONS)

    @property
    def newest(self) -> Vocabulary:
        """The vocabulary taken until the bridge has shown that it has another."""
        return self.vocabularies[0]

    @property
    def unknown(self) -> Phrases:
        """How a bridge of any version says that it does not know a command."""
        return tuple(dict.fromkeys(each for one in self.vocabularies for each in one.unknown))

    def vocabulary(self, name: str | None) -> Vocabulary:
        """Return a vocabulary by its name, or the newest."""
        return next((each for each in self.vocabularies if each.name == name), self.newest)


class Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file in ``families/``: commands that several kinds share."""

    sources: Annotated[tuple[Text, ...], Meta(min_length=1)]
    unknown: Phrases = ()
    commands: Mapping[str, Command]
