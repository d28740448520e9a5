"""Files and the space they take: who uploaded what, and deleting it."""

from datetime import UTC, datetime, timedelta
from typing import Literal

from adminbot.commands.lists import PAGE_SIZE, paged
from adminbot.commands.media_files import Files, listed_media, media_of, own, sized
from adminbot.commands.protect import account
from adminbot.commands.room_look import room_media
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Mono,
    Pill,
    Span,
    Strong,
    Table,
    answer,
    csv_file,
    facts,
    say,
    size,
    when,
    yes_no,
)
from adminbot.engine.command import command
from adminbot.engine.mxc import Mxc
from adminbot.engine.outcome import Finished, report, tell
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.supply import Attached, Reading, Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, ByteSize, Csv, Page
from common.errors import TransientError, UserError
from common.homeserver.errors import RefusedError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.media import (
    ListLargestRooms,
    ListMediaByUser,
    ListUserMedia,
    MediaOrder,
    all_media_by_user,
    all_user_media,
)
from common.homeserver.synapse.media_changes import (
    DeleteMedia,
    DeleteOldMedia,
    PurgeRemoteMedia,
)
from common.homeserver.synapse.rooms import ListRooms
from common.i18n import n, t
from common.ids import RoomId, UserId

TOP = 5
ROOMS_SHOWN = 10
DELETED_WORD = "delete"
ANY_SIZE = ByteSize(0)
_ORDERS: dict[str, MediaOrder] = {
    "created": "created_ts",
    "seen": "last_access_ts",
    "size": "media_length",
    "name": "upload_name",
}


@command(
    "media show", who=Role.SERVER_ADMIN, needs=Permission.VIEW, also=[Permission.READ_CONTENT]
)
async def media_show(
    admin: AdminReader,
    reading: Reading,
    attached: Attached,
    caller: Caller,
    file: str | None = None,
) -> Answer:
    """Show what the server knows of a file: by whom, how large, whether it is quarantined.

    Args:
        file: mxc://… or a link to the message that shares it; the message you reply to if left out
    """
    files = await Files(admin, reading, attached).named([] if file is None else [file])
    one = files[0]
    found = await media_of(admin, one)
    return answer(
        facts(
            [
                (t("File"), Mono(str(one))),
                (t("Name"), Mono(found.upload_name) if found.upload_name else None),
                (t("Type"), Mono(found.media_type) if found.media_type else None),
                (t("Size"), sized(found.media_length)),
                (t("By"), Pill(found.user_id) if found.user_id else None),
                (t("Uploaded"), when(found.created_ts, caller.now)),
                (t("Last download"), when(found.last_access_ts, caller.now) or t("never")),
                (
                    t("Quarantined by"),
                    Pill(found.quarantined_by) if found.quarantined_by else None,
                ),
                (
                    t("Protected"),
                    None
                    if found.safe_from_quarantine is None
                    else yes_no(found.safe_from_quarantine),
                ),
                (t("SHA-256"), Mono(found.sha256) if found.sha256 else None),
            ]
        )
    )


@command("media room", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def media_room(
    admin: AdminReader, room: RoomId, *, page: Page = FIRST_PAGE, csv: Csv = NO_CSV
) -> Answer:
    """List the files shared in a room, as far as its messages are not encrypted.

    Args:
        room: an address, a room ID or a link
    """
    found = await room_media.function(admin, room, page=page, csv=csv)
    assert isinstance(found, Answer)  # noqa: S101  # it is the same command by another name
    return found


@command("media user", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def media_user(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    *,
    sort: Literal["created", "seen", "size", "name"] = "created",
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the files somebody uploaded, the newest first.

    Args:
        user: a mention, a full user ID, or the local name
        sort: by upload, last download, size or name
    """
    await account(admin, settings, user)
    server = settings.config.homeserver.server_name
    direction: Literal["f", "b"] = "f" if sort == "name" else "b"
    request = ListUserMedia(
        user=user,
        order_by=_ORDERS[sort],
        direction=direction,
        start=(page - 1) * PAGE_SIZE,
        limit=PAGE_SIZE,
    )
    found = await admin.read(request)
    told = paged(
        n("{count} file in all.", "{count} files in all.", found.total), found.total, page
    )
    if csv:
        whole = ListUserMedia(user=user, order_by=_ORDERS[sort], direction=direction, limit=500)
        rows = [
            (Mxc(server, one.media_id), one.upload_name, one.media_length, one.created_ts)
            async for one in all_user_media(admin, whole)
        ]
        return answer(told).with_file(csv_file("media.csv", _COLUMNS, rows))
    if not found.media:
        return answer(told)
    files = [(Mxc(server, one.media_id), one) for one in found.media]
    return answer(listed_media(files, caller.now), told)


@command("media top", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def media_top(
    admin: AdminReader,
    *,
    name: str | None = None,
    since: datetime | None = None,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List who uploaded most, by size.

    Args:
        name: only people whose user ID or display name contains this
        since: only what was uploaded since, e.g. 2026-11-01
    """
    since_ms = None if since is None else int(since.timestamp() * 1000)
    request = ListMediaByUser(
        search=name, since_ms=since_ms, start=(page - 1) * PAGE_SIZE, limit=PAGE_SIZE
    )
    found = await admin.read(request)
    people = n("{count} person in all.", "{count} people in all.", found.total)
    told = paged(people, found.total, page)
    if csv:
        whole = ListMediaByUser(search=name, since_ms=since_ms, limit=500)
        rows = [
            (one.user_id, one.displayname, one.media_count, one.media_length)
            async for one in all_media_by_user(admin, whole)
        ]
        columns = ("user", "name", "files", "bytes")
        return answer(told).with_file(csv_file("uploads.csv", columns, rows))
    shown = [
        _uploads(one.user_id, one.displayname, one.media_count, one.media_length)
        for one in found.users
    ]
    return answer(_uploaders(shown), told) if shown else answer(told)


@command(
    "media delete", who=Role.SERVER_ADMIN, needs=Permission.DESTROY, also=[Permission.READ_CONTENT]
)
async def media_delete(
    admin: AdminReader,
    reading: Reading,
    attached: Attached,
    caller: Caller,
    settings: Settings,
    *files: str | None,
    older_than: timedelta | None = None,
    larger_than: ByteSize = ANY_SIZE,
    with_profiles: bool = False,
) -> Plan:
    """Delete files of this server for good: single ones, or all that nobody downloads any more.

    Args:
        files: mxc://… or links to messages; the file of the message you reply to if left out
        older_than: instead of single ones: all that nobody downloaded for this time, e.g. 180d
        larger_than: of those only larger ones, e.g. 10M
        with_profiles: of those also pictures of people and rooms
    """
    if older_than is not None:
        if any(files):
            raise UserError(t("Either name files or say --older-than, not both."))
        return _delete_old(caller, older_than, larger_than, with_profiles=with_profiles)
    if larger_than or with_profiles:
        raise UserError(t("--larger-than and --with-profiles go with --older-than."))
    named = await Files(admin, reading, attached).named([one for one in files if one])
    foreign = next((one for one in named if not own(settings, one)), None)
    if foreign is not None:
        raise UserError(
            t(
                "{file} is of another server, where I cannot delete it; “quarantine” keeps people "
                "here from downloading it.",
                file=Mono(str(foreign)),
            )
        )
    known = [(one, await media_of(admin, one)) for one in named]
    return Plan(
        summary=n("Delete {count} file", "Delete {count} files", len(known)),
        steps=tuple(DeleteMedia(one.server, one.media_id) for one in named),
        details=(listed_media(known, caller.now),),
        typed=DELETED_WORD,
        bulk=Bulk(at_once=4) if len(known) > 1 else None,
    )


def _delete_old(
    caller: Caller, older_than: timedelta, larger_than: int, *, with_profiles: bool
) -> Plan:
    before = _day_before(caller.now, older_than)
    since_ms = int(before.timestamp() * 1000)
    day = f"{before:%Y-%m-%d}"
    said = t("Every file of this server that nobody downloaded since {day}.", day=day)
    limits: list[Block] = [say(said)]
    if larger_than:
        limits.append(say(t("Only those larger than {size}.", size=size(larger_than))))
    if with_profiles:
        limits.append(say(t("Pictures of people and rooms, too.")))
    else:
        limits.append(say(t("Pictures of people and rooms stay.")))
    limits.append(say(t("The homeserver does not say how many these are before it is done.")))
    return Plan(
        summary=t("Delete files nobody downloaded since {day}", day=day),
        steps=(
            DeleteOldMedia(
                unused_since_ms=since_ms, larger_than=larger_than, with_profiles=with_profiles
            ),
        ),
        details=tuple(limits),
        typed=DELETED_WORD,
        report="media deleted",
    )


@command("media purge-remote", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def media_purge_remote(caller: Caller, *, older_than: timedelta) -> Plan:
    """Remove copies of other servers' files that nobody here downloaded for a while.

    They are fetched anew when somebody wants them, if the other server still has them.

    Args:
        older_than: for how long nobody did, e.g. 90d
    """
    before = _day_before(caller.now, older_than)
    day = f"{before:%Y-%m-%d}"
    return Plan(
        summary=t(
            "Remove copies of other servers' files that nobody downloaded since {day}", day=day
        ),
        steps=(PurgeRemoteMedia(int(before.timestamp() * 1000)),),
        report="media deleted",
    )


@command("storage report", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def storage_report(admin: AdminReader) -> Answer:
    """Show how much space files take, who uploaded most, and which rooms are largest."""
    files = in_all = people = 0
    top: list[tuple[Span, ...]] = []
    async for one in all_media_by_user(admin, ListMediaByUser(limit=500)):
        people += 1
        files += one.media_count
        in_all += one.media_length or 0
        if len(top) < TOP:
            top.append(_uploads(one.user_id, one.displayname, one.media_count, one.media_length))
    rooms = await admin.read(ListRooms(order_by="joined_members", limit=1))
    said = answer(
        facts(
            [
                (t("Files of this server"), str(files)),
                (t("Their size"), size(in_all)),
                (t("Uploaded by"), n("{count} person", "{count} people", people)),
                (t("Rooms"), str(rooms.total_rooms)),
            ]
        )
    )
    if top:
        said = said.followed_by(say(Strong(t("Most was uploaded by"))), _uploaders(top))
    heading, table = await _largest(admin)
    return said.followed_by(say(Strong(heading)), table)


@command("largest-rooms", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def largest_rooms(admin: AdminReader) -> Answer:
    """List the rooms that take most space in the homeserver's database."""
    heading, table = await _largest(admin)
    return answer(say(Strong(heading)), table)


@report("media deleted")
def media_deleted(finished: Finished) -> Answer:
    """Tell how many files were deleted."""
    if not finished.all_done:
        return tell(finished)
    number = int(finished.taken[0].detail or 0)
    return answer(
        t("Done: {summary}.", summary=finished.summary),
        n("{count} file was deleted.", "{count} files were deleted.", number),
    )


async def _largest(admin: AdminReader) -> tuple[str, Table]:
    """Return the largest rooms by bytes or, where the homeserver cannot say, by state."""
    try:
        found = await admin.read(ListLargestRooms())
    except (RefusedError, TransientError):
        # Not on SQLite; and Synapse reads a column that its newer versions leave empty.
        found = ()
    if found:
        rows: tuple[tuple[Span, ...], ...] = tuple(
            (Pill(one.room_id), size(one.estimated_size)) for one in found
        )
        return t("Largest rooms, roughly"), Table((t("Room"), t("Size")), rows)
    by_state = await admin.read(
        ListRooms(order_by="state_events", direction="f", limit=ROOMS_SHOWN)
    )
    rows = tuple(
        (Mono(one.name or ""), str(one.state_events), Pill(one.room_id)) for one in by_state.rooms
    )
    heading = t("Rooms with most state; the homeserver cannot say their size")
    return heading, Table((t("Name"), t("State events"), t("Room")), rows)


_COLUMNS = ("mxc", "name", "bytes", "uploaded_ms")


def _uploads(
    user: UserId | None, name: str | None, files: int, in_bytes: int | None
) -> tuple[Span, ...]:
    who: Span = Pill(user) if user else t("the server itself")
    return (who, Mono(name or ""), str(files), sized(in_bytes))


def _uploaders(rows: list[tuple[Span, ...]]) -> Table:
    return Table((t("User"), t("Name"), t("Files"), t("Size")), tuple(rows))


def _day_before(now: datetime, span: timedelta) -> datetime:
    """Return the day that long ago: the same all day, so that a plan stays what was confirmed."""
    if span < timedelta(days=1):
        raise UserError(t("Say at least one day, e.g. --older-than 90d."))
    try:
        moment = now.astimezone(UTC) - span
    except OverflowError:
        raise UserError(t("That is before there were computers.")) from None
    if moment < _EARLIEST:
        raise UserError(t("That is before there was Matrix."))
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


_EARLIEST = datetime(2014, 1, 1, tzinfo=UTC)
