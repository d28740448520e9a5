"""Where people are signed in, and ending it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from adminbot.commands.protect import account, targets
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, Pill, Table, answer, csv_file, lately
from adminbot.engine.command import command
from adminbot.engine.paging import page_of, paged
from adminbot.engine.people import described, ms_of
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.supply import Attached, Settings
from adminbot.engine.userlist import named_users
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.devices import DeleteUserDevices
from common.homeserver.synapse.users import Device, ListUserDevices
from common.i18n import n, t
from common.ids import DeviceId, UserId

_COLUMNS = ("device", "name", "ip", "last_seen_ms")


@command("user sessions", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def user_sessions(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    user: UserId,
    *,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List where somebody is signed in, the last used first.

    Args:
        user: who
    """
    await account(admin, settings, user)
    found = _last_used_first(await admin.read(ListUserDevices(user)))
    in_all = n("{count} session in all.", "{count} sessions in all.", len(found))
    if csv:
        rows = (
            (one.device_id, one.display_name, one.last_seen_ip, one.last_seen_ts) for one in found
        )
        return answer(in_all).with_file(csv_file("sessions.csv", _COLUMNS, rows))
    if not found:
        return answer(t("{user} is signed in nowhere.", user=Pill(user)))
    shown = tuple(
        (
            Mono(one.device_id),
            Mono(one.display_name or ""),
            Mono(one.last_seen_ip or ""),
            lately(one.last_seen_ts, caller.now) or t("never"),
        )
        for one in page_of(found, page)
    )
    columns = (t("Session"), t("Name"), t("Address"), t("Last used"))
    return answer(Table(columns, shown), paged(in_all, len(found), page))


@command("user logout", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def user_logout(
    admin: AdminReader,
    caller: Caller,
    settings: Settings,
    attached: Attached,
    *users: UserId | None,
    device: str | None = None,
    older_than: timedelta | None = None,
    keep: int | None = None,
) -> Plan:
    """End people's sessions: all, one, those not used for a while, or all but the newest.

    Encryption keys that only an ended session had are lost to the person.

    Args:
        users: whose; or attach or reply to a file of user IDs
        device: only this session, as “user sessions” shows it
        older_than: only those not used for this time, e.g. 30d
        keep: leave this many, the last used ones
    """
    if keep is not None and keep < 0:
        raise UserError(t("How many to keep cannot be negative."))
    named = await named_users(users, attached, settings.config.homeserver.server_name)
    found = await targets(admin, settings, caller, named, oneself=True)
    unused_since = None if older_than is None else caller.now - older_than
    steps = []
    for each in found:
        devices = await admin.read(ListUserDevices(each.name))
        ending = _chosen(devices, device, unused_since, keep or 0)
        if ending:
            steps.append(DeleteUserDevices(each.name, tuple(ending)))
    if not steps:
        raise UserError(t("There is no such session; “user sessions” lists those there are."))
    number = sum(len(step.devices) for step in steps)
    users_told = described(step.user for step in steps)
    return Plan(
        summary=n(
            "End {count} session of {users}",
            "End {count} sessions of {users}",
            number,
            users=users_told,
        ),
        steps=tuple(steps),
        bulk=Bulk() if len(steps) > 1 else None,
    )


def _last_used_first(devices: Sequence[Device]) -> list[Device]:
    return sorted(devices, key=lambda one: (-(one.last_seen_ts or 0), one.device_id))


def _chosen(
    devices: Sequence[Device], device: str | None, unused_since: datetime | None, keep: int
) -> list[DeviceId]:
    # One that the homeserver has not seen used is just being set up: it is not old.
    before = None if unused_since is None else ms_of(unused_since)
    return [
        DeviceId(one.device_id)
        for one in _last_used_first(devices)[keep:]
        if (device is None or one.device_id == device)
        and (before is None or before > (one.last_seen_ts or before))
    ]
