"""A room's history as files, for who has to hand it on."""

from datetime import datetime

from adminbot.commands.here import typed_name
from adminbot.commands.rooms import room_or_error
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Block, Mono, Pill, answer, facts, say, written
from adminbot.engine.command import command
from adminbot.engine.outcome import Finished, report, tell
from adminbot.engine.people import ms_of
from adminbot.engine.plan import Plan
from adminbot.engine.server_steps import ExportRoom
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.i18n import n, t
from common.ids import RoomId

SHORTEST_REASON = 5


@command("room export", who=Role.SERVER_ADMIN, needs=Permission.READ_CONTENT)
async def room_export(
    admin: AdminReader,
    caller: Caller,
    room: RoomId,
    *,
    reason: str,
    from_: datetime | None = None,
    to: datetime | None = None,
) -> Plan:
    """Send you a room's history as files of JSON lines, in our direct chat.

    It is what the homeserver has: what is encrypted stays so, and is marked. What auditbot could
    read of it is in the archive, whose officers get it by “steward audit transcript”.

    Args:
        room: an address, a room ID or a link
        reason: why you have to; it is kept in the log and stands in the files
        from_: only what was sent from then on
        to: only what was sent before then
    """
    if len(reason.strip()) < SHORTEST_REASON:
        raise UserError(t("Say in a few words why; it is kept in the log."))
    if from_ is not None and to is not None and to <= from_:
        raise UserError(t("The end has to be after the beginning."))
    details = await room_or_error(admin, room)
    card = facts(
        [
            (t("From"), None if from_ is None else written(from_)),
            (t("To"), None if to is None else written(to)),
            (t("Why"), Mono(reason)),
        ]
    )
    details_shown: list[Block] = [card]
    if details.encryption:
        note = t("The room is encrypted: its messages cannot be read in the files.")
        details_shown.append(say(note))
    step = ExportRoom(
        room=room,
        by=caller.actor.user,
        reason=reason.strip(),
        from_ms=None if from_ is None else ms_of(from_),
        until_ms=None if to is None else ms_of(to),
    )
    return Plan(
        summary=t("Send you the history of {room}", room=Pill(room)),
        steps=(step,),
        details=tuple(details_shown),
        typed=typed_name(details),
        report="room export",
    )


@report("room export")
def exported(finished: Finished) -> Answer:
    """Tell how much it was."""
    if not finished.all_done:
        return tell(finished)
    events, _, files = finished.taken[0].detail.partition(" ")
    return answer(
        t("Done: {summary}.", summary=finished.summary),
        n(
            "{events} events in {count} file, in our direct chat.",
            "{events} events in {count} files, in our direct chat.",
            int(files),
            events=events,
        ),
    )
