"""What must hold beyond a single value's type: forms of names and addresses, and between values."""

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from common.config.bot_settings import Auditbot
from common.config.schema import Config
from common.config.secret import Secret
from common.errors import ConfigError, UserError
from common.ids import MAX_BYTES, parse_room_id, parse_user_id
from common.officers import parse_officer_key

Place = Callable[..., str]
"""From dotted names to where the first that was set stands, e.g. ``config.yaml, line 7``."""


class Fault(NamedTuple):
    """The option to blame, and the rest of the sentence after its name.

    ``other`` is the option whose place helps where the first has its default.
    """

    option: str
    sentence: str
    other: str = ""


def check(config: Config, place: Place) -> None:
    """Raise ``ConfigError`` for the first rule that is broken."""
    for rule in (
        _names,
        _addresses,
        _tokens,
        _passphrases,
        _database,
        _accounts,
        _adminbot,
        _archive,
    ):
        for option, sentence, other in rule(config):
            raise ConfigError(f"{place(option, other)}: {option} {sentence}")


def check_archive(auditbot: Auditbot, place: Place) -> None:
    """Raise ``ConfigError`` if where the archive is, or how its store is reached, cannot be."""
    for option, sentence, other in (*_store(auditbot), *_destination(auditbot)):
        raise ConfigError(f"{place(option, other)}: {option} {sentence}")


_SERVER_NAME = re.compile(r"([A-Za-z0-9.\-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_USER_LOCALPART = re.compile(r"[a-z0-9._=/+\-]+")
# Synapse refuses a sender whose name would be percent-encoded in a path.
_SENDER_LOCALPART = re.compile(r"[a-z0-9._\-]+")
_APPSERVICE_ID = re.compile(r"[A-Za-z0-9._~\-]+")


def _names(config: Config) -> Iterator[Fault]:
    name = config.homeserver.server_name
    if "/" in name:
        yield Fault(
            "homeserver.server_name",
            "is a name, not an address; write it without “https://” and without a path, as in "
            "“example.org”.",
        )
    elif not _SERVER_NAME.fullmatch(name):
        yield Fault(
            "homeserver.server_name",
            "is not a server name; write what stands after the first colon of a user ID there, "
            "as in “example.org”.",
        )
    if not _APPSERVICE_ID.fullmatch(config.appservice.id):
        yield Fault(
            "appservice.id",
            "may hold only letters, digits and “.”, “_”, “~”, “-”; write for example “steward”.",
        )


def _addresses(config: Config) -> Iterator[Fault]:
    bare = {
        "homeserver.url": config.homeserver.url,
        "homeserver.admin_url": config.homeserver.admin_url,
    }
    with_path = {
        "appservice.url": config.appservice.url,
        "auditbot.s3.endpoint_url": config.auditbot.s3.endpoint_url,
    }
    for option, address in (bare | with_path).items():
        if address is None:
            continue
        sentence = _address_fault(address, path_allowed=option in with_path)
        if sentence:
            yield Fault(option, sentence)


def _address_fault(address: str, *, path_allowed: bool) -> str:
    """Return what is wrong with an http address, ``""`` if nothing."""
    wrong = "is not an address; write for example “http://127.0.0.1:8008”."
    try:
        parts = urlsplit(address)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return wrong
    if not usable or not address.isprintable() or " " in address:
        return wrong
    if "@" in parts.netloc:
        return "must not hold a user name or password; write only “http://host:port”."
    if parts.query or parts.fragment:
        return "must not hold a “?” or “#”; write only “http://host:port”."
    if parts.path and not path_allowed:
        return "must not hold a path; write only “http://host:port”."
    return ""


def _tokens(config: Config) -> Iterator[Fault]:
    service = config.appservice
    for option, token in (
        ("appservice.as_token", service.as_token),
        ("appservice.hs_token", service.hs_token),
    ):
        if not re.fullmatch(r"[!-~]+", token.reveal()):
            yield Fault(
                option,
                "may hold only ASCII letters, digits and signs without blanks, because it "
                "travels in an HTTP header; write another one, here and in the registration.",
            )
    if service.as_token == service.hs_token:
        yield Fault(
            "appservice.hs_token",
            "is the same as as_token; each side needs a token of its own, here and in the "
            "registration.",
        )


_SHORTEST_PASSPHRASE = 16


def _passphrases(config: Config) -> Iterator[Fault]:
    for option, passphrase in (
        ("encryption.adminbot_passphrase", config.encryption.adminbot_passphrase),
        ("encryption.auditbot_passphrase", config.encryption.auditbot_passphrase),
    ):
        if passphrase is None:
            continue
        text = passphrase.reveal()
        if text != text.strip():
            yield Fault(
                option,
                "begins or ends with a blank, which Element cuts off; write it without.",
            )
        if len(text) < _SHORTEST_PASSPHRASE:
            yield Fault(
                option,
                f"is shorter than {_SHORTEST_PASSPHRASE} characters; it protects every room key, "
                "so write six words or more, or leave it out and have one made.",
            )


def _database(config: Config) -> Iterator[Fault]:
    url: Secret = config.database.url
    scheme, _, rest = url.reveal().partition(":")
    if scheme in {"postgres", "postgresql"} and rest.startswith("//") and len(rest) > len("//"):
        if _has_bad_port(url.reveal()):
            yield Fault(
                "database.url",
                "is not an address; signs such as “/”, “#” and “@” in the password must be "
                "percent-encoded.",
            )
    elif scheme != "sqlite" or not rest.strip("/") or rest.strip("/") == ":memory:":
        yield Fault(
            "database.url",
            "must be postgres://user:password@host/database or sqlite:FILE.",
        )


def _has_bad_port(address: str) -> bool:
    try:
        return urlsplit(address).port == 0
    except ValueError:
        return True


def _accounts(config: Config) -> Iterator[Fault]:
    localparts = {
        "appservice.sender_localpart": config.appservice.sender_localpart,
        "adminbot.localpart": config.adminbot.localpart,
        "auditbot.localpart": config.auditbot.localpart,
    }
    seen: dict[str, str] = {}
    for option, localpart in localparts.items():
        is_sender = option == "appservice.sender_localpart"
        allowed = _SENDER_LOCALPART if is_sender else _USER_LOCALPART
        if not allowed.fullmatch(localpart):
            yield Fault(
                option,
                "is the part of a user ID between “@” and “:”; write lower-case letters, digits "
                f"and “.”, “_”, “-”{'' if is_sender else ', “=”, “/”, “+”'} only.",
            )
        if len(f"@{localpart}:{config.homeserver.server_name}") > MAX_BYTES:
            yield Fault(
                option, f"makes a user ID longer than {MAX_BYTES} bytes; write a shorter one."
            )
        if localpart in seen:
            yield Fault(
                option,
                f"is the same as {seen[localpart]}; each account needs its own name.",
                seen[localpart],
            )
        seen[localpart] = option
    if not config.adminbot.enabled and not config.auditbot.enabled:
        yield Fault(
            "auditbot.enabled",
            "is false and so is adminbot.enabled; at least one bot must be enabled.",
            "adminbot.enabled",
        )


def _adminbot(config: Config) -> Iterator[Fault]:
    prefixes = config.adminbot.prefixes
    if not prefixes or any(not word or word != "".join(word.split()) for word in prefixes):
        yield Fault(
            "adminbot.prefixes",
            'must hold at least one prefix, none of them empty or with a blank, as in ["!"].',
        )
    for name in config.adminbot.server_admins:
        try:
            user = parse_user_id(name)
        except UserError:
            yield Fault(
                "adminbot.server_admins",
                "holds what is no user ID; write each one like “@alice:example.org”.",
            )
            continue
        if not user.endswith(f":{config.homeserver.server_name}"):
            yield Fault(
                "adminbot.server_admins",
                f"holds an account that is not on {config.homeserver.server_name}; only local "
                "accounts may command the server.",
            )
    yield from _adminbot_rooms(config)
    if config.adminbot.time_zone not in available_timezones():
        yield Fault(
            "adminbot.time_zone",
            "is no time zone; write one like “Europe/Berlin”, or “UTC”.",
        )


def _adminbot_rooms(config: Config) -> Iterator[Fault]:
    settings = config.adminbot
    for network in settings.check_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield Fault(
                "adminbot.check_networks", "holds what is no network; one looks like 10.0.0.0/8."
            )
    named = [("control_rooms", room) for room in settings.control_rooms]
    for option in ("log_room", "trust_and_safety_room"):
        room = getattr(settings, option)
        named += [(option, room)] if room else []
    for option, room in named:
        try:
            parse_room_id(room)
        except UserError:
            yield Fault(
                f"adminbot.{option}",
                "holds what is no room ID; it begins with “!” (an alias, with “#”, can be moved "
                "to another room).",
            )


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]")


_AGE_KEY = re.compile(r"age1[02-9ac-hj-np-z]{58}")


def _recipients(recipients: Sequence[str]) -> Iterator[Fault]:
    option = "auditbot.age_recipients"
    for number, text in enumerate(recipients):
        if not _AGE_KEY.fullmatch(text):
            yield Fault(
                f"{option}[{number}]",
                "is no age public key; one begins with “age1” and is what age-keygen prints as "
                "“public key”.",
                option,
            )
    if len(set(recipients)) == 1:
        yield Fault(
            option,
            "names only one key: whoever loses it loses the archive; add a second one, whose "
            "other half lies somewhere else.",
        )


def _approvers(auditbot: Auditbot) -> Iterator[Fault]:
    option, keys = "auditbot.approvers", []
    for number, text in enumerate(auditbot.approvers):
        try:
            keys.append(parse_officer_key(text))
        except ValueError as error:
            yield Fault(f"{option}[{number}]", f"{error}.", option)
    for what in ({key.name for key in keys}, {key.data for key in keys}):
        if len(what) < len(keys):
            yield Fault(option, "names somebody twice: each needs a name and a key of their own.")
    needed, there = auditbot.approvals_needed, len(auditbot.approvers)
    if needed > there:
        yield Fault(
            "auditbot.approvals_needed",
            f"is {needed}, but auditbot.approvers names {there}: nothing could ever be approved.",
            option,
        )
    if there and not needed:
        yield Fault(
            option,
            "is set, but auditbot.approvals_needed is not: write how many of them must approve.",
        )


def _store(auditbot: Auditbot) -> Iterator[Fault]:
    store = auditbot.s3
    for given, other, name, other_name in (
        (store.access_key_id, store.secret_access_key, "access_key_id", "secret_access_key"),
        (store.secret_access_key, store.access_key_id, "secret_access_key", "access_key_id"),
    ):
        if given is not None and other is None:
            yield Fault(
                f"auditbot.s3.{name}",
                f"is set, but {other_name} is not; write both, or neither for the usual chain.",
            )
    if store.sse_kms_key_id is not None and store.sse != "aws:kms":
        yield Fault(
            "auditbot.s3.sse_kms_key_id", "is set, but auditbot.s3.sse is not aws:kms; write both."
        )


_MOST_CLASSES = 32
_MOST_PATTERNS = 1000
_LONGEST_PATTERN = 255


def _retention(config: Config) -> Iterator[Fault]:
    option = "auditbot.retention_classes"
    names = [one.name for one in config.auditbot.retention_classes]
    if len(names) > _MOST_CLASSES:
        yield Fault(option, f"holds more than {_MOST_CLASSES} classes; join some of them.")
    for number, one in enumerate(config.auditbot.retention_classes):
        if one.name == "default":
            yield Fault(
                option,
                "holds a class “default”: that is what all others belong to, and "
                "auditbot.keep_days says how long it is kept; choose another name.",
            )
        if one.name in names[:number]:
            yield Fault(option, f"holds two classes “{one.name}”; join them, or rename one.")
        if not (one.rooms or one.room_types) and one.direct is None and one.encrypted is None:
            yield Fault(
                option,
                f"does not say which rooms the class “{one.name}” is for; write rooms, "
                "room_types, direct or encrypted.",
            )
        if len(one.rooms) > _MOST_PATTERNS or any(
            not _is_room_pattern(pattern) for pattern in one.rooms
        ):
            yield Fault(
                option,
                f"holds in “rooms” of the class “{one.name}” what is no room ID (“!…”) and no "
                f"alias (“#…”) of at most {_LONGEST_PATTERN} characters, or more than "
                f"{_MOST_PATTERNS} of them; write for example “#board-*:example.org”.",
            )


def _is_room_pattern(pattern: str) -> bool:
    is_name = pattern[:1] in {"!", "#"} and len(pattern) > 1
    return is_name and pattern.isprintable() and len(pattern) <= _LONGEST_PATTERN


def _archive(config: Config) -> Iterator[Fault]:
    yield from _store(config.auditbot)
    yield from _retention(config)
    yield from _recipients(config.auditbot.age_recipients)
    yield from _approvers(config.auditbot)
    yield from _sealing(config)
    yield from _destination(config.auditbot)


def _destination(auditbot: Auditbot) -> Iterator[Fault]:
    destination = auditbot.destination
    if destination is None:
        return
    scheme, _, rest = destination.partition(":")
    if scheme == "s3":
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        if not rest.startswith("//") or not _BUCKET.fullmatch(bucket):
            yield Fault(
                "auditbot.destination",
                "names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX, the bucket in 3 to "
                "63 lower-case letters, digits, “.” and “-”.",
            )
        if not _is_plain_path(prefix):
            yield Fault(
                "auditbot.destination",
                "has a prefix with “//”, “.” or “..”; write s3://BUCKET/a/b.",
            )
    elif not rest.strip("/") or (rest.startswith("//") and not rest.startswith("///")):
        yield Fault(
            "auditbot.destination",
            "names no directory; write file:archive or file:///absolute/directory.",
        )


def _sealing(config: Config) -> Iterator[Fault]:
    if config.auditbot.erasable and not config.auditbot.age_recipients:
        yield Fault(
            "auditbot.erasable",
            "is set, but auditbot.age_recipients is not: only what is encrypted can be erased by "
            "destroying a key; write both.",
        )
    if config.auditbot.seal == "content" and not config.auditbot.age_recipients:
        yield Fault(
            "auditbot.seal",
            "is content, but auditbot.age_recipients is not set: there is nobody to whom content "
            "could be sealed; write both.",
        )
    if config.auditbot.erasable == "person" and config.auditbot.seal != "content":
        yield Fault(
            "auditbot.erasable",
            "is person, but auditbot.seal is not content: a segment holds what many people wrote, "
            "and has one key; write “seal: content” too.",
        )
    if config.auditbot.session_keys and not config.auditbot.age_recipients:
        yield Fault(
            "auditbot.session_keys",
            "is set, but auditbot.age_recipients is not: whoever reads the archive's storage could "
            "open messages with these keys; write both.",
        )
    if config.auditbot.session_keys and not config.auditbot.ciphertext:
        yield Fault(
            "auditbot.session_keys",
            "is set, but auditbot.ciphertext is false: then there is nothing that the keys could "
            "open again; leave one of the two out.",
        )


def _is_plain_path(prefix: str) -> bool:
    parts = prefix.removesuffix("/").split("/") if prefix else []
    return prefix.isprintable() and all(part not in {"", ".", ".."} for part in parts)
