"""Keeping people from downloading files, and sparing files from that."""

from collections import deque

from adminbot.commands.lists import page_of, paged
from adminbot.commands.media_files import Files, listed_media, many, media_of, own
from adminbot.commands.protect import target
from adminbot.commands.room_end import room_media_quarantine
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Table, answer, csv_file, say
from adminbot.engine.command import command
from adminbot.engine.mxc import Mxc
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.supply import Attached, Reading, Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.media import (
    ListUserMedia,
    Media,
    QuarantineChange,
    all_quarantine_changes,
)
from common.homeserver.synapse.media_changes import (
    ProtectMedia,
    QuarantineMedia,
    QuarantineUserMedia,
    UnquarantineMedia,
)
from common.i18n import n, t
from common.ids import RoomId, UserId

MOST_CHANGES = 1000


@command(
    "quarantine", who=Role.SERVER_ADMIN, needs=Permission.MODERATE, also=[Permission.READ_CONTENT]
)
async def quarantine(
    admin: AdminReader, reading: Reading, attached: Attached, caller: Caller, *files: str | None
) -> Plan:
    """Keep people of this server from downloading files, and copies of the same content.

    Args:
        files: mxc://… or links to messages; the file of the message you reply to if left out
    """
    known = await _known(admin, reading, attached, files)
    for file, one in known:
        if one.safe_from_quarantine:
            raise UserError(t("{file} is protected; “unprotect” it first.", file=Mono(str(file))))
    open_ = [(file, one) for file, one in known if one.quarantined_by is None]
    if not open_:
        raise UserError(t("That is quarantined already."))
    return Plan(
        summary=n("Quarantine {count} file", "Quarantine {count} files", len(open_)),
        steps=tuple(QuarantineMedia(file.server, file.media_id) for file, _ in open_),
        details=(listed_media(open_, caller.now),),
        bulk=Bulk(at_once=4) if len(open_) > 1 else None,
    )


@command("quarantine user", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def quarantine_user(
    admin: AdminReader, settings: Settings, caller: Caller, user: UserId
) -> Plan:
    """Keep people from downloading anything that somebody uploaded here.

    Args:
        user: a mention, a full user ID, or the local name
    """
    found = await target(admin, settings, caller, user)
    total = (await admin.read(ListUserMedia(user=user, limit=1))).total
    if not total:
        raise UserError(t("{user} uploaded nothing.", user=Pill(user)))
    return Plan(
        summary=n(
            "Quarantine {count} file of {user}",
            "Quarantine {count} files of {user}",
            total,
            user=Pill(user),
        ),
        steps=(QuarantineUserMedia(user),),
        details=(say(t("Protected files stay as they are.")),),
        typed=str(found.name),
    )


@command("quarantine room", who=Role.SERVER_ADMIN, needs=Permission.MODERATE)
async def quarantine_room(admin: AdminReader, room: RoomId) -> Plan:
    """Keep people from downloading anything shared in a room, as far as it was not encrypted.

    Args:
        room: an address, a room ID or a link
    """
    plan = await room_media_quarantine.function(admin, room)
    assert isinstance(plan, Plan)  # noqa: S101  # it is the same command by another name
    return plan


@command("quarantine changes", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def quarantine_changes(
    admin: AdminReader, *, page: Page = FIRST_PAGE, csv: Csv = NO_CSV
) -> Answer:
    """List what was quarantined and set free lately, the newest first."""
    last: deque[QuarantineChange] = deque(maxlen=MOST_CHANGES)
    async for change in all_quarantine_changes(admin):
        last.append(change)
    found = list(reversed(last))
    told = paged(n("{count} change.", "{count} changes.", len(found)), len(found), page)
    if csv:
        rows = ((Mxc(one.origin, one.media_id), _became(one)) for one in found)
        return answer(told).with_file(csv_file("quarantine.csv", ("mxc", "became"), rows))
    shown = tuple(
        (Mono(str(Mxc(one.origin, one.media_id))), _became(one)) for one in page_of(found, page)
    )
    return answer(Table((t("File"), t("Became")), shown), told) if shown else answer(told)


@command(
    "unquarantine",
    who=Role.SERVER_ADMIN,
    needs=Permission.MODERATE,
    also=[Permission.READ_CONTENT],
)
async def unquarantine(
    admin: AdminReader, reading: Reading, attached: Attached, caller: Caller, *files: str | None
) -> Plan:
    """Let people download files again.

    Args:
        files: mxc://… or links to messages; the file of the message you reply to if left out
    """
    known = await _known(admin, reading, attached, files)
    held = [(file, one) for file, one in known if one.quarantined_by is not None]
    if not held:
        raise UserError(t("That is not quarantined."))
    return Plan(
        summary=n(
            "Let people download {count} file again",
            "Let people download {count} files again",
            len(held),
        ),
        steps=tuple(UnquarantineMedia(file.server, file.media_id) for file, _ in held),
        details=(listed_media(held, caller.now),),
        bulk=Bulk(at_once=4) if len(held) > 1 else None,
    )


@command(
    "protect", who=Role.SERVER_ADMIN, needs=Permission.MODERATE, also=[Permission.READ_CONTENT]
)
async def protect(
    admin: AdminReader,
    reading: Reading,
    attached: Attached,
    settings: Settings,
    *files: str | None,
) -> Plan:
    """Keep files of this server from being quarantined, say the picture of the organisation.

    Args:
        files: mxc://… or links to messages; the file of the message you reply to if left out
    """
    known = await _own_files(admin, reading, attached, settings, files)
    held = next((file for file, one in known if one.quarantined_by is not None), None)
    if held is not None:
        raise UserError(t("{file} is quarantined; “unquarantine” it first.", file=Mono(str(held))))
    return Plan(
        summary=n("Protect {count} file", "Protect {count} files", len(known)),
        steps=tuple(ProtectMedia(file.media_id) for file, _ in known),
        result=answer(say(t("Protected: "), *many(file for file, _ in known))),
    )


@command(
    "unprotect", who=Role.SERVER_ADMIN, needs=Permission.MODERATE, also=[Permission.READ_CONTENT]
)
async def unprotect(
    admin: AdminReader,
    reading: Reading,
    attached: Attached,
    settings: Settings,
    *files: str | None,
) -> Plan:
    """Let files of this server be quarantined again, if somebody asks for it.

    Args:
        files: mxc://… or links to messages; the file of the message you reply to if left out
    """
    known = await _own_files(admin, reading, attached, settings, files)
    return Plan(
        summary=n(
            "Take the protection from {count} file",
            "Take the protection from {count} files",
            len(known),
        ),
        steps=tuple(ProtectMedia(file.media_id, protected=False) for file, _ in known),
        result=answer(say(t("No longer protected: "), *many(file for file, _ in known))),
    )


async def _known(
    admin: AdminReader, reading: Reading, attached: Attached, files: tuple[str | None, ...]
) -> list[tuple[Mxc, Media]]:
    named = await Files(admin, reading, attached).named([one for one in files if one])
    return [(file, await media_of(admin, file)) for file in named]


async def _own_files(
    admin: AdminReader,
    reading: Reading,
    attached: Attached,
    settings: Settings,
    files: tuple[str | None, ...],
) -> list[tuple[Mxc, Media]]:
    known = await _known(admin, reading, attached, files)
    foreign = next((file for file, _ in known if not own(settings, file)), None)
    if foreign is not None:
        raise UserError(
            t(
                "{file} is of another server; only own files can be protected.",
                file=Mono(str(foreign)),
            )
        )
    return known


def _became(change: QuarantineChange) -> str:
    return t("quarantined") if change.quarantined else t("free again")
