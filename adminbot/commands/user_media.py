"""The files that people uploaded."""

from adminbot.commands.protect import account, target
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    Pill,
    Span,
    Table,
    answer,
    csv_file,
    size,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.paging import PAGE_SIZE, paged
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.supply import Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.media import ListUserMedia, Media, all_user_media
from common.homeserver.synapse.media_changes import (
    DeleteMedia,
    DeleteUserMedia,
    QuarantineUserMedia,
)
from common.i18n import n, t
from common.ids import UserId

MOST_AT_ONCE = 100
_COLUMNS = ("mxc", "name", "type", "bytes", "created_ms", "last_access_ms", "quarantined_by")


@command("user media list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_media_list(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the files somebody uploaded, the newest first.

    Args:
        user: who
    """
    await account(admin, settings, user)
    server = settings.config.homeserver.server_name
    if csv:
        rows = [
            _csv_row(one, server) async for one in all_user_media(admin, ListUserMedia(user=user))
        ]
        in_all = n("{count} file in all.", "{count} files in all.", len(rows))
        return answer(in_all).with_file(csv_file("media.csv", _COLUMNS, rows))
    start = (page - 1) * PAGE_SIZE
    found = await admin.read(ListUserMedia(user=user, start=start, limit=PAGE_SIZE))
    if not found.total:
        return answer(t("{user} uploaded nothing.", user=Pill(user)))
    shown: tuple[tuple[Span, ...], ...] = tuple(
        (
            Mono(_mxc(one, server)),
            Mono(one.upload_name or ""),
            Mono(one.media_type or ""),
            size(one.media_length or 0),
            when(one.created_ts, caller.now) or "",
            t("quarantined") if one.quarantined_by else "",
        )
        for one in found.media
    )
    columns = (t("File"), t("Name"), t("Type"), t("Size"), t("Uploaded"), t("State"))
    in_all = n("{count} file in all.", "{count} files in all.", found.total)
    return answer(Table(columns, shown), paged(in_all, found.total, page))


@command("user media delete", who=Role.SERVER_ADMIN, needs=Permission.DESTROY)
async def user_media_delete(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId, *files: str | None
) -> Plan:
    """Delete all files somebody uploaded, or certain ones.

    Their profile picture and pictures of rooms are files too.

    Args:
        user: whose
        files: only these, as “user media list” shows them (mxc://…)
    """
    await target(admin, settings, caller, user, oneself=True)
    server = settings.config.homeserver.server_name
    named = [one for one in files if one is not None]
    if not named:
        total = (await admin.read(ListUserMedia(user=user, limit=1))).total
        if not total:
            raise UserError(t("{user} uploaded nothing.", user=user))
        return Plan(
            summary=n(
                "Delete the {count} file of {user}",
                "Delete all {count} files of {user}",
                total,
                user=user,
            ),
            steps=(DeleteUserMedia(user, limit=total),),
            typed=user,
        )
    theirs = {_mxc(one, server) async for one in all_user_media(admin, ListUserMedia(user=user))}
    for one in named:
        if one not in theirs:
            raise UserError(t("{file} is no file of {user}.", file=Mono(one), user=user))
    steps = tuple(DeleteMedia(server, one.rpartition("/")[2]) for one in dict.fromkeys(named))
    return Plan(
        summary=n(
            "Delete {count} file of {user}",
            "Delete {count} files of {user}",
            len(steps),
            user=user,
        ),
        steps=steps,
        typed=user,
        bulk=Bulk() if len(steps) > 1 else None,
    )


@command("user media quarantine", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def user_media_quarantine(
    admin: AdminReader, caller: Caller, settings: Settings, user: UserId
) -> Plan:
    """Keep everybody from downloading the files somebody uploaded.

    Args:
        user: whose
    """
    await target(admin, settings, caller, user, oneself=True)
    step = QuarantineUserMedia(user)
    return Plan(summary=step.describe(), steps=(step,), typed=user)


def _mxc(one: Media, server: str) -> str:
    return f"mxc://{one.media_origin or server}/{one.media_id}"


def _csv_row(one: Media, server: str) -> tuple[object, ...]:
    return (
        _mxc(one, server),
        one.upload_name,
        one.media_type,
        one.media_length,
        one.created_ts,
        one.last_access_ts,
        one.quarantined_by,
    )
