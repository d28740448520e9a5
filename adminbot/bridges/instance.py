"""One bridge at this server: what the configuration says of it, and what is known; pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from adminbot.bridges.kind import Kind, Vocabulary
from adminbot.bridges.namespaces import Namespaces, bot_of_expression, expression_for, namespaces
from common.config.secret import Secret
from common.errors import ConfigError
from common.i18n import t
from common.ids import UserId, localpart_of, server_of

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
NO_LIMIT = -1

Argv = tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...]


class Provisioning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bridge's own HTTP interface for log-ins, with its shared secret in a file."""

    url: Annotated[str, Meta(pattern="^https?://")]
    secret_file: Annotated[str, Meta(min_length=1)]


class BridgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One group of the file ``bridges.settings``; everything may be left out."""

    kind: str | None = None
    bot: str | None = None
    registration: str | None = None
    users: tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...] = ()
    vocabulary: str | None = None
    prefix: Annotated[str, Meta(pattern=r"^[!-~]{1,40}$")] | None = None
    """Its ``command_prefix``, where that is not the kind's."""

    admin_room: Annotated[str, Meta(pattern=r"^!\S{1,254}$")] | None = None
    """Where adminbot types its own commands, if not in a chat with the bot alone."""

    limit: Annotated[int, Meta(ge=0)] | None = None
    own_limit: bool = False
    """Whether the bridge's own limit is configured; then Steward only watches it."""

    url: Annotated[str, Meta(pattern="^https?://")] | None = None
    """Where its ``live`` and ``ready`` are, and its metrics unless ``metrics_url`` says otherwise;
    unset means the registration's address, which has no metrics."""

    metrics_url: Annotated[str, Meta(pattern="^https?://")] | None = None
    provisioning: Provisioning | None = None
    on_pause: Argv = ()
    on_resume: Argv = ()
    on_restart: Argv = ()
    on_allow: Argv = ()
    on_deny: Argv = ()


class _Namespace(msgspec.Struct, frozen=True):
    regex: str
    exclusive: bool = True


class _Namespaces(msgspec.Struct, frozen=True):
    users: tuple[_Namespace, ...] = ()


class _Registration(msgspec.Struct, frozen=True):
    """Matrix specification v1.18, application service API, "Registration"."""

    id: str
    as_token: str
    sender_localpart: str
    url: str | None = None
    namespaces: _Namespaces = _Namespaces()
    protocols: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Registration:
    """What we need of a bridge's registration file."""

    id: str
    url: str | None
    as_token: Secret
    sender: UserId
    expressions: tuple[str, ...]
    protocols: tuple[str, ...]


NOTHING_SET = BridgeSettings()


@dataclass(frozen=True)
class Bridge:
    """One bridge, ready to be spoken to and counted."""

    name: str
    kind: Kind
    bot: UserId
    namespaces: Namespaces
    source: str
    vocabulary: Vocabulary
    settings: BridgeSettings = NOTHING_SET
    registration: Registration | None = None

    @property
    def address(self) -> str | None:
        """Where it listens, if that is known."""
        registered = self.registration.url if self.registration else None
        return self.settings.url or registered

    @property
    def metrics(self) -> str | None:
        """Where its metrics are; most bridges have them at another address than all else."""
        path, url = self.kind.endpoints.metrics, self.settings.url
        here = None if path is None or url is None else url.rstrip("/") + path
        return self.settings.metrics_url or here


def read_settings(data: Any, name: str) -> Mapping[str, BridgeSettings]:
    """Return the groups of a settings file; ``ConfigError`` names what is wrong."""
    try:
        groups = msgspec.convert(data or {}, dict[str, BridgeSettings])
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}.") from None
    for group, settings in groups.items():
        if not NAME.fullmatch(group):
            raise ConfigError(
                f"{name}: a bridge's name is small letters, digits, “-”, “_” and “.”, not “{group}”."
            )
        if settings.registration is None and (settings.bot is None or settings.kind is None):
            raise ConfigError(f"{name}: “{group}” needs a registration, or a bot and a kind.")
    return groups


def read_registration(data: Any, name: str, server: str) -> Registration:
    """Return a registration; the tokens stay secret, in errors too."""
    try:
        found = msgspec.convert(data, _Registration)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name} is no registration: {error}.") from None
    return Registration(
        id=found.id,
        url=found.url or None,
        as_token=Secret(found.as_token),
        sender=UserId(f"@{found.sender_localpart}:{server}"),
        expressions=tuple(each.regex for each in found.namespaces.users),
        protocols=found.protocols or (),
    )


def bots_of(registration: Registration, server: str) -> tuple[UserId, ...]:
    """Return which accounts may be its bot, the likeliest first.

    mautrix bridges register a random sender, and their bot as a namespace of its own.
    """
    literal = [
        bot
        for expression in registration.expressions
        if (bot := bot_of_expression(expression, server)) is not None
    ]
    return tuple(dict.fromkeys([*literal, registration.sender]))


def guess(
    kinds: Iterable[Kind], bot: UserId, protocols: Iterable[str] = (), registered: str = ""
) -> Kind | None:
    """Return the kind that a bridge most likely is: by its bot's name, its protocol, its id.

    Never by the id alone where another sign speaks: ids are free.
    """
    known, name = list(kinds), localpart_of(bot)
    by_bot = [kind for kind in known if name in kind.bots]
    by_protocol = [kind for kind in known if set(protocols) & set(kind.protocols)]
    both = [kind for kind in by_bot if kind in by_protocol]
    by_id = [kind for kind in known if registered.lower() == kind.id]
    candidates = both or by_bot or by_protocol or by_id
    # Newer programs of a network come first in their makers' own order: bridgev2, then others.
    return min(candidates, key=lambda kind: kind.family != "bridgev2", default=None)


def assembled(
    name: str,
    *,
    kinds: Mapping[str, Kind],
    server: str,
    settings: BridgeSettings = NOTHING_SET,
    registration: Registration | None = None,
    source: str,
) -> Bridge:
    """Return one bridge from what the configuration says.

    Raises:
        ConfigError: its kind or bot cannot be told.
    """
    bots = bots_of(registration, server) if registration else ()
    bot = UserId(settings.bot) if settings.bot else next(iter(bots), None)
    if bot is None:
        raise ConfigError(f"The bridge “{name}” has no bot.")
    if settings.kind is not None:
        kind = kinds.get(settings.kind)
        if kind is None:
            raise ConfigError(
                f"The bridge “{name}” is of the kind “{settings.kind}”, which there is not."
            )
    else:
        protocols = registration.protocols if registration else ()
        kind = guess(kinds.values(), bot, protocols, registration.id if registration else "")
    if kind is None:
        raise ConfigError(f"Of which kind the bridge “{name}” is cannot be told; name its kind.")
    if settings.prefix is not None:
        kind = msgspec.structs.replace(kind, prefix=settings.prefix)
    words = kind.vocabulary(settings.vocabulary)
    if settings.provisioning is not None and not has_provisioning(kind, words):
        raise ConfigError(
            f"The bridge “{name}” has no provisioning interface of version 3. If it is a newer one, "
            "say so by its vocabulary."
        )
    expressions = settings.users or (registration.expressions if registration else ())
    if not expressions and server_of(bot) == server:
        # A bridge elsewhere has its people there.
        expressions = tuple(expression_for(each, server) for each in kind.ghosts)
    return Bridge(
        name=name,
        kind=kind,
        bot=bot,
        namespaces=namespaces(server, expressions, {bot, *bots}),
        source=source,
        vocabulary=words,
        settings=settings,
        registration=registration,
    )


def has_provisioning(kind: Kind, words: Vocabulary) -> bool:
    """Say whether a bridge has the interface by which adminbot draws log-in codes itself."""
    return kind.endpoints.provisioning == "v3" or words.like == "bridgev2"


def name_for(wanted: str, taken: Iterable[str]) -> str:
    """Return a bridge's name made of something that need not be one."""
    base = re.sub(r"[^a-z0-9_.-]+", "-", wanted.lower()).strip("-_.")[:36] or "bridge"
    names, number, name = set(taken), 2, base
    while name in names:
        name, number = f"{base}-{number}", number + 1
    return name


def shown_limit(config_limit: int | None, chat_limit: int | None) -> int | None:
    """Return the limit that holds: what was said in chat, else what is configured."""
    if chat_limit is None:
        return config_limit
    return None if chat_limit == NO_LIMIT else chat_limit


def unknown_bridge(name: str, names: Iterable[str]) -> str:
    """Say that there is no such bridge, and which there are."""
    known = ", ".join(sorted(names))
    if not known:
        return t(
            "No bridge is known. A server admin can name its registration in Steward's "
            "configuration (bridges)."
        )
    return t("There is no bridge “{name}”; there are {names}.", name=name, names=known)
