"""The settings of the two bots and of what belongs to them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from common.config.forms import (
    BYTES,
    Address,
    Days,
    Destination,
    FilledText,
    Listener,
    MessageText,
    ObjectLock,
    Picture,
    Seconds,
    StoreEncryption,
)
from common.config.secret import Secret


class Adminbot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bot that takes commands."""

    enabled: Annotated[bool, Meta(description="Whether this bot runs.")] = True
    localpart: Annotated[str, Meta(description="Local part of its user ID.")] = "adminbot"
    displayname: Annotated[str, Meta(description="Its name as people see it.", min_length=1)] = (
        "Admin Bot"
    )
    avatar_url: Annotated[
        Picture | None,
        Meta(
            description="Its picture, a content URI of this homeserver.",
            examples=["mxc://example.org/abcdef"],
        ),
    ] = None
    prefixes: Annotated[
        tuple[str, ...],
        Meta(description="What a command in a shared room begins with; longest match wins."),
    ] = ("!admin", "!")
    server_admins: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Local accounts treated as server admins besides those that the homeserver "
                "itself flags as admin."
            ),
            examples=[["@alice:example.org"]],
        ),
    ] = ()
    control_rooms: Annotated[
        tuple[str, ...],
        Meta(
            description="Room IDs where server admins may command besides a direct chat.",
            examples=[["!abcdef:example.org"]],
        ),
    ] = ()
    log_room: Annotated[
        str | None,
        Meta(
            description=(
                "Room ID where adminbot writes each command and what became of it; whoever is "
                "in there reads it."
            ),
            examples=["!abcdef:example.org"],
        ),
    ] = None
    trust_and_safety_room: Annotated[
        str | None,
        Meta(
            description=(
                "Room ID where new reports appear; it counts as one of control_rooms. Unset "
                "means in all control_rooms, or by direct message to each server admin."
            ),
            examples=["!abcdef:example.org"],
        ),
    ] = None
    two_person: Annotated[
        tuple[str, ...],
        Meta(
            description="Commands that a second server admin has to approve.",
            examples=[["user deactivate", "room delete"]],
        ),
    ] = ()
    protected_accounts: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Accounts that no command locks, closes or changes, besides Steward's own, those "
                "of bridges and the one of server notices."
            ),
            examples=[["@break-glass:example.org"]],
        ),
    ] = ()
    registration_link: Annotated[
        Address,
        Meta(
            description=(
                "Where people make their account with a registration token; {token} in it is "
                "replaced. Element takes no token from a link, it asks for it."
            ),
            examples=["https://element.example.org/#/register"],
        ),
    ] = "https://app.element.io/#/register"
    check_networks: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Private networks that checks of servers (fed check, wellknown check) may reach "
                "all the same, say because your own server's name leads into one from here."
            ),
            examples=[["10.20.0.0/16"]],
        ),
    ] = ()
    language: Annotated[
        str,
        Meta(
            description="Language of adminbot for whoever has chosen none: en or de.",
            examples=["de"],
            pattern="^[a-z]{2}$",
            extra={"form": "a language such as en or de"},
        ),
    ] = "en"
    time_zone: Annotated[
        str,
        Meta(
            description="Time zone in which adminbot reads dates, a name of the IANA database.",
            examples=["Europe/Berlin"],
            min_length=1,
        ),
    ] = "UTC"
    missed_runs: Annotated[
        str,
        Meta(
            description=(
                "What becomes of scheduled commands that were due while Steward was down, where "
                "the schedule does not say: once (one run makes up for all), skip, or all."
            ),
            examples=["skip"],
            pattern="^(once|skip|all)$",
            extra={"form": "once, skip or all"},
        ),
    ] = "once"
    notices_per_second: Annotated[
        float,
        Meta(
            description="To how many people a second a notice goes, where it does not say.", gt=0
        ),
    ] = 10
    secrets_kept_seconds: Annotated[
        Seconds,
        Meta(
            description="After this time adminbot takes back messages that hold a password.", ge=1
        ),
    ] = 600
    max_command_age_seconds: Annotated[
        Seconds,
        Meta(description="A command older than this when it is read is not obeyed.", ge=0),
    ] = 300
    seen_from_days: Annotated[
        int,
        Meta(
            description=(
                "How long adminbot keeps from which addresses and on which devices accounts of "
                "this server were used, so that “user find” finds them by it. This is personal "
                "data. 0 keeps nothing, and deletes what was kept."
            ),
            ge=0,
            le=365,
            extra={"unit": "days"},
        ),
    ] = 28


class S3(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the object store when auditbot's destination is s3://."""

    endpoint_url: Annotated[
        Address | None,
        Meta(
            description="The store's address; unset means Amazon's own.",
            examples=["https://s3.example.org"],
        ),
    ] = None
    region: Annotated[str, Meta(description="The bucket's region.", min_length=1)] = "us-east-1"
    access_key_id: Annotated[
        Secret | None,
        Meta(
            description=(
                "Access key; unset means the usual chain (environment, profile, instance role)."
            )
        ),
    ] = None
    secret_access_key: Annotated[
        Secret | None, Meta(description="Secret key that belongs to access_key_id.")
    ] = None
    path_style: Annotated[
        bool | None,
        Meta(
            description=(
                "Name the bucket in the path (true) or in the host name (false). Unset means the "
                "path for a store with an endpoint_url, and the host name for Amazon's."
            )
        ),
    ] = None
    ca_file: Annotated[
        FilledText | None,
        Meta(
            description=(
                "PEM file of the authority that signed the store's certificate. Unset means the "
                "authorities that this machine trusts."
            ),
            examples=["/etc/ssl/private-ca.pem"],
        ),
    ] = None
    sse: Annotated[
        StoreEncryption | None,
        Meta(
            description=(
                "Encryption by the store: AES256 (keys of the store) or aws:kms (keys of its key "
                "service). Unset means as the bucket is set up."
            ),
            examples=["AES256"],
        ),
    ] = None
    sse_kms_key_id: Annotated[
        FilledText | None,
        Meta(description="The key for sse aws:kms; unset means the bucket's own."),
    ] = None
    object_lock: Annotated[
        ObjectLock | None,
        Meta(
            description=(
                "Lock every object against deletion for retention_days: governance (privileged "
                "people may lift it) or compliance (nobody can, whoever they are, until the time "
                "is over). The bucket must have been made with Object Lock."
            ),
            examples=["governance"],
        ),
    ] = None
    retention_days: Annotated[
        int,
        Meta(description="How long object_lock keeps each object.", ge=1, extra={"unit": "days"}),
    ] = 365


class RetentionClass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of rooms whose records are kept for a time of their own.

    A room belongs to the first class all of whose conditions hold; within a list one is enough.
    """

    name: Annotated[
        str,
        Meta(
            description="The class's name, as records and manifests say it.",
            pattern="^[a-z][a-z0-9_]{0,31}$",
            extra={"form": "up to 32 of a-z, 0-9 and “_”, a letter first"},
            examples=["board"],
        ),
    ]
    keep_days: Annotated[
        Days | None,
        Meta(
            description="How many whole days its records are kept; null means for ever.",
            examples=[3650],
        ),
    ]
    rooms: Annotated[
        tuple[str, ...],
        Meta(
            description="Room IDs or aliases; “*” stands for any text, “?” for one character.",
            examples=[["#board-*:example.org"]],
        ),
    ] = ()
    room_types: Annotated[
        tuple[str, ...],
        Meta(description="Types of rooms.", examples=[["m.space"]]),
    ] = ()
    direct: Annotated[
        bool | None, Meta(description="Only direct chats (true), or only other rooms (false).")
    ] = None
    encrypted: Annotated[
        bool | None, Meta(description="Only encrypted rooms (true), or only others (false).")
    ] = None


class Auditbot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bot that archives."""

    enabled: Annotated[bool, Meta(description="Whether this bot runs.")] = True
    localpart: Annotated[str, Meta(description="Local part of its user ID.")] = "auditbot"
    displayname: Annotated[str, Meta(description="Its name as people see it.", min_length=1)] = (
        "Audit Bot"
    )
    avatar_url: Annotated[
        Picture | None,
        Meta(
            description="Its picture, a content URI of this homeserver.",
            examples=["mxc://example.org/abcdef"],
        ),
    ] = None
    destination: Annotated[
        Destination | None,
        Meta(
            description=(
                "Where the archive goes: file:archive, file:///absolute/directory or "
                "s3://bucket/prefix. Unset (null) means nothing is exported."
            ),
        ),
    ] = "file:archive"
    s3: Annotated[S3, Meta(description="The object store behind an s3:// destination.")] = S3()
    segment_max_bytes: Annotated[
        int,
        Meta(description="Close a segment at this size before compression.", ge=1, extra=BYTES),
    ] = 64 * 2**20
    segment_max_age_seconds: Annotated[
        Seconds, Meta(description="Close a segment this long after its first record.", ge=0)
    ] = 300
    compression: Annotated[
        str,
        Meta(
            description=(
                "How segments are compressed: zstd, or gzip for query engines that know no zstd "
                "(old Hive and Athena), which takes more room and time. A change counts for the "
                "segments that are closed from then on; readers read both."
            ),
            pattern="^(zstd|gzip)$",
            extra={"form": "zstd or gzip"},
        ),
    ] = "zstd"
    age_recipients: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Officers' age public keys. With them, segments and attachments are encrypted so "
                "that only these keys open them, not Steward itself. At least two: whoever loses "
                "the only one loses the archive. Unset means that the store's own encryption has "
                "to do."
            ),
            examples=[["age1…officer", "age1…escrow"]],
        ),
    ] = ()
    seal: Annotated[
        str,
        Meta(
            description=(
                "What is encrypted to age_recipients: whole segments, or of each record only its "
                "content. With `content`, anybody who may read the bucket sees who wrote when in "
                "which room and how much, and counts with any tool, while texts, reasons, reactions, "
                "file names and files are for the officers' keys alone. It takes about 0.25 ms of "
                "a processor and 700 bytes in the bucket more for each record. Needs "
                "age_recipients."
            ),
            pattern="^(segments|content)$",
            extra={"form": "segments or content"},
        ),
    ] = "segments"
    erasable: Annotated[
        bool | Literal["day", "person"],
        Meta(
            description=(
                "Whether there is a key for each UTC day (true or `day`), which only the officers' "
                "keys open and which `steward audit erase` destroys: then the day cannot be read "
                "any more, and that nothing was changed can still be proved. With `seal: content` "
                "there may be a key for each person instead (`person`), so that what one of them "
                "wrote can be erased. Needs age_recipients. The bucket must not lock `keys/` by a "
                "default retention."
            ),
            extra={"form": "true, false, day or person"},
        ),
    ] = False
    session_keys: Annotated[
        bool,
        Meta(
            description=(
                "Whether the archive keeps, encrypted to the officers, the room keys with which "
                "messages were read, so that `steward audit recheck` can decrypt them again and "
                "compare. A key opens its room's messages from the first one on that it was needed "
                "for that day, those of other days too wherever their ciphertext is. With "
                "`seal: content` each is sealed to the key of what it was needed for, and goes with "
                "it. Needs age_recipients."
            )
        ),
    ] = False
    ciphertext: Annotated[
        bool,
        Meta(
            description=(
                "Whether the archive keeps of each encrypted message that was read what it was read "
                "from. Without it the archive is half as large and is written with a sixth less work, "
                "but nobody can decrypt a message again and compare; of what cannot be read it is "
                "always kept."
            )
        ),
    ] = True
    receipts: Annotated[
        bool,
        Meta(
            description=(
                "Whether it is recorded who read what (read receipts), and shown to officers. Private "
                "receipts are never seen: the homeserver tells nobody else of them."
            )
        ),
    ] = False
    recover_redacted: Annotated[
        bool,
        Meta(
            description=(
                "Whether the homeserver is asked for the content of messages that were deleted "
                "before Steward saw them, while it was down for example. Synapse keeps that for "
                "redaction_retention_period (7 days). It is archived, and marked as recovered. "
                "Messages that are deleted later are in the archive in any case."
            )
        ),
    ] = True
    media: Annotated[bool, Meta(description="Whether attachments are archived.")] = True
    media_max_bytes: Annotated[
        int,
        Meta(
            description=(
                "Largest attachment archived; larger ones are recorded as too large. Keep it "
                "above the homeserver's max_upload_size."
            ),
            ge=1,
            extra=BYTES,
        ),
    ] = 512 * 2**20
    media_scanner: Annotated[
        Listener | None,
        Meta(
            description=(
                "Where ClamAV's clamd listens, which looks at each attachment before it is "
                "archived. A host is sent the files in clear, so let it be this machine. Unset "
                "means none is asked."
            ),
            examples=["/run/clamav/clamd.ctl", "127.0.0.1:3310"],
        ),
    ] = None
    keep_infected: Annotated[
        bool,
        Meta(
            description=(
                "Whether an attachment in which media_scanner found something is archived all the "
                "same, marked, so that the officers' pages do not show it. Otherwise only its hash "
                "and what was found are."
            )
        ),
    ] = True
    room_notice: Annotated[
        MessageText | None,
        Meta(
            description=(
                "A notice that auditbot sends once to each room that it is in, and pins where it or "
                "adminbot may: who it is, what is recorded and why, whom to ask. Another text is sent "
                "once again, and pinned in the place of the old one. Unset or empty means none."
            ),
            examples=[
                "@auditbot:example.org archives this room for the legal department. Questions: privacy@example.org"
            ],
        ),
    ] = None
    room_notice_direct_chats: Annotated[
        bool, Meta(description="Whether the notice is sent to chats of two people, too.")
    ] = False
    timestamp_url: Annotated[
        Address | None,
        Meta(
            description=(
                "A time stamping authority (RFC 3161) that stamps the archive's newest signed tree "
                "head once a day, so that a stolen signing key cannot write a past. It sees a hash. "
                "Unset means none is asked."
            ),
            examples=["http://timestamp.example.org"],
        ),
    ] = None
    keep_days: Annotated[
        Days | None,
        Meta(
            description=(
                "How many whole days of the archive `steward audit retention` keeps; unset means "
                "that nothing is ever deleted. Nothing is deleted without that command. With "
                "retention_classes, this is for what belongs to none of them."
            ),
            examples=[3650],
        ),
    ] = None
    retention_classes: Annotated[
        tuple[RetentionClass, ...],
        Meta(
            description=(
                "Classes of rooms whose records are kept for another time than keep_days, in "
                "order: a room belongs to the first that fits. A change counts for what is "
                "recorded from then on. What shares a segment with a longer class stays as long."
            ),
            examples=[
                [{"name": "board", "keep_days": 3650, "rooms": ["#board-*:example.org"]}],
            ],
        ),
    ] = ()
    approvers: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Verifier keys of the officers who may approve what `steward audit retention` and "
                "`erase` delete, as `steward audit cosign --new` prints them."
            ),
            examples=[["anna.example.com+5782579a+BC3t…", "bert.example.com+c32f35aa+BAmz…"]],
        ),
    ] = ()
    approvals_needed: Annotated[
        int,
        Meta(
            description=(
                "How many different approvers must have signed the plan before `retention --apply` "
                "or `erase --apply` deletes anything. 0 means that none need to."
            ),
            ge=0,
        ),
    ] = 0
    manifest_interval_seconds: Annotated[
        Seconds,
        Meta(
            description=(
                "How often the archive's state is signed, also when nothing happened: silence "
                "for longer than this means that Steward did not run."
            ),
            gt=0,
        ),
    ] = 900


class Bridges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bridges to other networks, and integrations; docs/bridges.md explains the files."""

    settings: Annotated[
        FilledText | None,
        Meta(
            description=(
                "YAML file with a group of settings for each bridge: kind, bot, registration, "
                "limit, provisioning, hooks."
            ),
            examples=["/etc/steward/bridges.yaml"],
        ),
    ] = None
    registrations: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Registration files of bridges that Steward may read. They say which accounts "
                "are bridged, and let it ask whether a bridge is up."
            ),
            examples=[["/etc/matrix-synapse/heisenbridge.yaml"]],
        ),
    ] = ()
    kinds: Annotated[
        tuple[str, ...],
        Meta(
            description="Files with kinds of bridges of your own, besides those Steward knows.",
            examples=[["/etc/steward/my-bridge.yaml"]],
        ),
    ] = ()
    active_days: Annotated[
        int,
        Meta(
            description=(
                "On how many different days (UTC) of the last 31 a bridged person must have sent "
                "something to count as active."
            ),
            ge=1,
            le=31,
            extra={"unit": "days"},
        ),
    ] = 2
    check_interval_seconds: Annotated[
        Seconds,
        Meta(description="How often bridges are asked if they are up, and counted.", gt=0),
    ] = 60
    acting_token: Annotated[
        Secret | None,
        Meta(
            description=(
                "The as_token of a second registration (url: null; users: @.*, not exclusive). "
                "With it adminbot types a bridge's commands in the name of the person who asked "
                "for it, at that moment; without it the person is told what to type."
            )
        ),
    ] = None
