"""The keys of an archive, as its format lays them down; a key of another form is never read."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

DEFAULT_CLASS = "default"
"""The retention class of what belongs to no other."""
DAY_MS = 86_400_000
VERSION = 1
NEWER = (
    "{what} is written in a newer version of the format, which this version of Steward cannot read: "
    "install the newest version of Steward on this machine, and run the command again."
)
"""What is said of what a later major version wrote, with what it is."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SERVER = r"v1/(?P<server>[A-Za-z0-9_][A-Za-z0-9._-]*)/"
_STREAM = r"(?P<stream>[A-Za-z0-9]{1,64})"
_DAY = r"dt=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})/"

_SCOPE = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}-[a-z0-9_]{1,40}|[0-9a-f]{32})-[0-9]{1,9}"
"""What a key of content is for: a day and retention class, or a person; and its number."""

_SEGMENT = re.compile(
    _SERVER
    + "events/"
    + _DAY
    + _STREAM
    + r"-(?P<seq>[0-9]{12,18})\.jsonl\.(?:zst|gz)(?P<age>\.age)?"
)
_SESSIONS = re.compile(
    _SERVER
    + "sessions/"
    + _DAY
    + _STREAM
    + r"-(?P<seq>[0-9]{12,18})\.jsonl\.(?:zst|gz)(?P<age>\.age)?"
)
_OTHERWISE_PACKED = re.compile(
    _SERVER
    + "(?:events|sessions)/"
    + _DAY
    + _STREAM
    + r"-[0-9]{12,18}\.jsonl(?!(?:\.zst|\.gz)(?:\.age)?$)(?:\.[a-z0-9]{1,16}){1,3}"
)
_MANIFEST = re.compile(_SERVER + "manifests/" + _DAY + _STREAM + r"-(?P<number>[0-9]{8,18})\.json")
_CHECKPOINT = re.compile(_SERVER + "checkpoints/" + _STREAM + r"-(?P<size>[0-9]{12,18})\.note")
_STAMP = re.compile(_SERVER + r"checkpoints/" + _STREAM + r"-[0-9]{12,18}\.tsr")
_MEDIA = re.compile(
    _SERVER + r"media/(?P<folder>[0-9a-f]{2})/(?P<id>[0-9a-f]{64})"
    # In an encrypted archive the digits of its recipients, which older ones lack.
    r"(?:(?:-[0-9a-f]{16}|-" + _STREAM + "-(?:(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    "|(?P<scope>" + _SCOPE + ")))?"
    r"\.age)?"
)
_CONTENT_KEY = re.compile(_SERVER + "keys/content-" + _STREAM + "-" + _SCOPE + r"\.age")
_DAY_KEY = re.compile(_SERVER + "keys/day-" + _STREAM + r"-[0-9]{4}-[0-9]{2}-[0-9]{2}\.age")
_STATEMENT = re.compile(
    _SERVER
    + r"(?:(?:removals|holds|erasures)/[A-Za-z0-9_-]{1,128}|keys/rotation-[0-9a-f]{16}|reports/"
    r"dt=[0-9]{4}-[0-9]{2}-[0-9]{2}/completeness)\.json"
)
_SIGNING = re.compile(_SERVER + r"keys/signing-(?P<id>[0-9a-f]{16})\.pem")
_RECIPIENTS = re.compile(_SERVER + r"keys/recipients-[0-9a-f]{16}\.txt")
_DESCRIPTION = re.compile(
    _SERVER + r"(?:README\.txt|schema/record-1\.json|sql/(?:duckdb|athena)\.sql|state/head\.json)"
)
_DERIVED = re.compile(_SERVER + r"derived/.+")
_ACCESS = re.compile(
    _SERVER
    + r"access/(?:entries/[0-9a-f]{16}-(?:[0-9]{8}|[1-9][0-9]{8,14})\.json|keys/[0-9a-f]{16}\.pem)"
)
_LEASE = re.compile(_SERVER + r"state/lease\.json")
PROBE = re.compile(r"v1/probe-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """What the key of a segment says."""

    server: str
    day: date
    stream: str
    first_seq: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class ManifestKey:
    """What the key of a manifest says."""

    server: str
    day: date
    stream: str
    number: int


def server_folder(server_name: str) -> str:
    """Return a homeserver's name as it stands in keys."""
    safe = re.sub(r"[^A-Za-z0-9.-]", "_", server_name)
    return re.sub(r"^\.+", lambda dots: "_" * len(dots.group()), safe) or "_"


def server_of(key: str) -> str | None:
    """Return below which server's folder a key lies."""
    found = re.match(_SERVER, key)
    return found["server"] if found else None


def segment_key(key: str) -> SegmentKey | None:
    """Return what a key says if it is a segment's."""
    found = _SEGMENT.fullmatch(key)
    day = _day(found["day"]) if found else None
    if found is None or day is None:
        return None
    return SegmentKey(found["server"], day, found["stream"], int(found["seq"]), bool(found["age"]))


def is_otherwise_packed(key: str) -> bool:
    """Return whether a key is of a segment, or its room keys, in a compression unknown here."""
    return _OTHERWISE_PACKED.fullmatch(key) is not None


def is_gzip(key: str) -> bool:
    """Return whether a segment, or its room keys, is compressed with gzip and not with zstd."""
    return key.removesuffix(".age").endswith(".gz")


def sessions_key(key: str) -> SegmentKey | None:
    """Return what a key says if it is of a segment's room keys: it has the segment's numbers."""
    found = _SESSIONS.fullmatch(key)
    day = _day(found["day"]) if found else None
    if found is None or day is None:
        return None
    return SegmentKey(found["server"], day, found["stream"], int(found["seq"]), bool(found["age"]))


def manifest_key(key: str) -> ManifestKey | None:
    """Return what a key says if it is a manifest's."""
    found = _MANIFEST.fullmatch(key)
    day = _day(found["day"]) if found else None
    if found is None or day is None:
        return None
    return ManifestKey(found["server"], day, found["stream"], int(found["number"]))


def checkpoint_key(key: str) -> tuple[str, int] | None:
    """Return stream and size if a key is a checkpoint's."""
    found = _CHECKPOINT.fullmatch(key)
    return (found["stream"], int(found["size"])) if found else None


def is_stamp(key: str) -> bool:
    """Return whether a key is of the time stamp of a checkpoint."""
    return _STAMP.fullmatch(key) is not None


def is_media(key: str) -> bool:
    """Return whether a key is an attachment's."""
    found = _MEDIA.fullmatch(key)
    return found is not None and found["id"].startswith(found["folder"])


def is_day_key(key: str) -> bool:
    """Return whether a key is of the wrapped key of a day."""
    return _DAY_KEY.fullmatch(key) is not None


def is_content_key(key: str) -> bool:
    """Return whether a key is of the wrapped key that records' content is sealed to."""
    return _CONTENT_KEY.fullmatch(key) is not None


def wrapped_key_of(key: str) -> str | None:
    """Return where the wrapped key is that an object is encrypted to, if it has one."""
    found = _SESSIONS.fullmatch(key) or _SEGMENT.fullmatch(key)
    if found is None or not key.endswith(".age"):
        found = _MEDIA.fullmatch(key)
        if found is not None and found["scope"]:
            return f"v1/{found['server']}/keys/content-{found['stream']}-{found['scope']}.age"
        if found is None or not found["day"]:
            return None
    return f"v1/{found['server']}/keys/day-{found['stream']}-{found['day']}.age"


def is_statement(key: str) -> bool:
    """Return whether a key is of a signed document that is no manifest."""
    return _STATEMENT.fullmatch(key) is not None


def is_page(key: str) -> bool:
    """Return whether a key is of the page for people of a day's report."""
    return key.endswith(".html") and is_statement(key.removesuffix(".html") + ".json")


def page_key(key: str) -> str:
    """Return where the page for people of a day's report is."""
    return key.removesuffix(".json") + ".html"


def signing_key_id(key: str) -> str | None:
    """Return the key id if a key is that of a public signing key."""
    found = _SIGNING.fullmatch(key)
    return found["id"] if found else None


def is_description(key: str) -> bool:
    """Return whether a key is of what explains the archive, or hints at its end."""
    return _DESCRIPTION.fullmatch(key) is not None


def is_derived(key: str) -> bool:
    """Return whether a key is of a copy that can be made again at any time."""
    return _DERIVED.fullmatch(key) is not None


def derived_prefix(server: str) -> str:
    """Return what the keys of all copies for query engines begin with."""
    return f"v1/{server}/derived/parquet/"


def derived_folder(server: str, day: date) -> str:
    """Return below which key a day's copy lies."""
    return f"{derived_prefix(server)}dt={day.isoformat()}/"


def is_access(key: str) -> bool:
    """Return whether a key is of the officers' access log, if that was put among the objects."""
    return _ACCESS.fullmatch(key) is not None


def is_hint(key: str) -> bool:
    """Return whether a key is of the hint to the newest manifest."""
    return key.endswith("/state/head.json") and is_description(key)


def is_lease(key: str) -> bool:
    """Return whether a key is of what writers agree by which of them writes; it proves nothing."""
    return _LEASE.fullmatch(key) is not None


def is_recipients(key: str) -> bool:
    """Return whether a key is of a list of the people to whom an archive is encrypted."""
    return _RECIPIENTS.fullmatch(key) is not None


def is_written_once(key: str) -> bool:
    """Return whether a key is of something that is written once, and only removed on purpose."""
    document = key.removesuffix(".sig") + ".json" if key.endswith(".sig") else key
    return bool(
        segment_key(key)
        or sessions_key(key)
        or manifest_key(document)
        or checkpoint_key(key)
        or is_stamp(key)
        or is_media(key)
        or is_day_key(key)
        or is_content_key(key)
        or is_statement(document)
        or signing_key_id(key)
    )


def signature_key(key: str) -> str:
    """Return where the signature of a JSON document is."""
    return key.removesuffix(".json") + ".sig"


def day_of(moment_ms: int) -> date | None:
    """Return the UTC day of a moment, ``None`` where no calendar has it."""
    try:
        return (_EPOCH + timedelta(milliseconds=moment_ms)).date()
    except OverflowError:
        return None


def begin_ms(day: date) -> int:
    """Return the first moment of a UTC day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
