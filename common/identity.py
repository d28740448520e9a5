"""The accounts Steward acts as: registered, named, each bot with a device of its own."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from common.clock import Clock
from common.config.schema import Config
from common.config.secret import Secret
from common.database.pool import Connection, Database
from common.errors import PermanentError
from common.ids import DeviceId, UserId, localpart_of, server_of
from common.matrix.client import CLIENT, MatrixClient, MatrixError, segment
from common.telemetry.log import Log

log = Log("identity")

ADMIN = "/_synapse/admin"


def account(config: Config, localpart: str) -> UserId:
    """Return the user ID of one of our accounts."""
    return UserId(f"@{localpart}:{config.homeserver.server_name}")


async def ensure_registered(client: MatrixClient) -> None:
    """Register the account through the application service, unless it exists.

    Source: specification, application service API, "Server admin style permissions";
    MSC4190 demands ``inhibit_login``.
    """
    try:
        await client.request(
            "POST",
            f"{CLIENT}/v3/register",
            {
                "type": "m.login.application_service",
                "username": localpart_of(client.user_id),
                "inhibit_login": True,
            },
        )
    except MatrixError as error:
        if error.errcode != "M_USER_IN_USE":
            raise PermanentError(
                f"The homeserver does not let Steward have the account {client.user_id} "
                f"({error}). Is the registration file in homeserver.yaml's "
                "app_service_config_files, and was the homeserver restarted since?"
            ) from error
    else:
        log.info("account registered", account=client.user_id)


async def ensure_profile(
    client: MatrixClient, *, displayname: str, avatar_url: str | None
) -> None:
    """Set name and picture where they differ; people may rename a bot only in the config."""
    path = f"{CLIENT}/v3/profile/{segment(client.user_id)}"
    current = await client.request("GET", path)
    for field, wanted in (("displayname", displayname), ("avatar_url", avatar_url)):
        if wanted is not None and current.get(field) != wanted:
            await client.request("PUT", f"{path}/{field}", {field: wanted})


@dataclass(frozen=True, slots=True)
class LostDevice:
    """A bot's device that had to be replaced."""

    user_id: UserId
    device_id: DeviceId
    noticed_ms: int


async def ensure_device(
    client: MatrixClient, database: Database, clock: Clock, *, name: str
) -> DeviceId:
    """Return the bot's device, made by ``PUT /devices/{id}`` (MSC4190) where it is missing.

    A device that the homeserver no longer has is replaced by a new one with a new ID: clients
    refuse a device whose keys change.
    """
    known = await database.fetchval(
        "SELECT device_id FROM identity_device WHERE user_id = $1", client.user_id
    )
    if known is not None and await _exists(client, DeviceId(known)):
        return DeviceId(known)
    if known is not None:
        await forget_device(database, clock, client.user_id)
    device_id = DeviceId(f"STEWARD{secrets.token_hex(5).upper()}")
    # Written down first, so that a device which was made is never a forgotten one.
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO identity_device (user_id, device_id) VALUES ($1, $2)"
            " ON CONFLICT (user_id) DO UPDATE SET device_id = excluded.device_id",
            client.user_id,
            device_id,
        )
    await _make(client, device_id, name)
    return device_id


async def forget_device(database: Database, clock: Clock, user_id: UserId) -> None:
    """Have ``ensure_device`` make a new device for the account; remember that one was lost."""
    async with database.transaction() as connection:
        device_id = await connection.fetchval(
            "DELETE FROM identity_device WHERE user_id = $1 RETURNING device_id", user_id
        )
        if device_id is None:
            return
        await connection.execute(
            "INSERT INTO identity_lost_device (user_id, device_id, noticed_ms)"
            " VALUES ($1, $2, $3) ON CONFLICT (user_id, device_id) DO NOTHING",
            user_id,
            device_id,
            clock.now_ms(),
        )
    log.error(
        "a bot's device was deleted or can no longer be used; a new one is made: messages sent "
        "meanwhile may stay unreadable",
        account=user_id,
        device=device_id,
    )


async def lost_devices(connection: Connection, *, recorded: bool) -> list[LostDevice]:
    """Return lost devices that are to be recorded (or else told of), oldest first, once."""
    column = "recorded" if recorded else "told"
    rows = await connection.fetch(
        f"UPDATE identity_lost_device SET {column} = 1 WHERE {column} = 0"  # noqa: S608  # placeholders and constants only
        " RETURNING user_id, device_id, noticed_ms"  # one of two words of our own
    )
    return sorted(
        (
            LostDevice(UserId(row["user_id"]), DeviceId(row["device_id"]), row["noticed_ms"])
            for row in rows
        ),
        key=lambda lost: (lost.noticed_ms, lost.user_id),
    )


async def _exists(client: MatrixClient, device_id: DeviceId) -> bool:
    try:
        await client.request("GET", f"{CLIENT}/v3/devices/{segment(device_id)}")
    except MatrixError as error:
        if error.errcode == "M_NOT_FOUND":
            return False
        raise
    return True


async def _make(client: MatrixClient, device_id: DeviceId, name: str) -> None:
    try:
        await client.request(
            "PUT", f"{CLIENT}/v3/devices/{segment(device_id)}", {"display_name": name}
        )
    except MatrixError as error:
        raise PermanentError(
            f"The homeserver does not make a device for {client.user_id} ({error}). The "
            "registration needs “io.element.msc4190: true”; restart the homeserver after adding it."
        ) from error


async def is_server_admin(adminbot: MatrixClient) -> bool:
    """Say whether the homeserver lets adminbot use the admin API."""
    try:
        answer = await adminbot.request(
            "GET", f"{ADMIN}/v1/users/{segment(adminbot.user_id)}/admin"
        )
    except MatrixError as error:
        if error.errcode == "M_FORBIDDEN":
            return False
        raise
    return answer.get("admin") is True


async def ensure_server_admin(
    adminbot: MatrixClient, database: Database, shared_secret: Secret | None
) -> bool:
    """Make adminbot a server admin where the shared secret allows it; return whether it is one.

    Only a server admin can make another one, and the shared secret can only create accounts.
    So a helper account with a random password is created as admin, grants the right, loses its
    own and is closed for good; its name is written down before, so that one which an
    interruption left behind is closed at the next start.
    """
    if not await is_server_admin(adminbot):
        if not shared_secret:
            log.error(
                "adminbot is no server admin: most commands will fail; `steward doctor` prints "
                "the call that an admin has to make",
                account=adminbot.user_id,
            )
            return False
        helper = account_beside(adminbot.user_id, f"steward-setup-{secrets.token_hex(6)}")
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO identity_helper (user_id) VALUES ($1)", helper)
        token = await _create_helper(adminbot, helper, shared_secret)
        await adminbot.request_as(
            token,
            "PUT",
            f"{ADMIN}/v1/users/{segment(adminbot.user_id)}/admin",
            {"admin": True},
        )
        log.info("adminbot was made a server admin", account=adminbot.user_id, through=helper)
    for row in await database.fetch("SELECT user_id FROM identity_helper"):
        await _close_helper(adminbot, database, UserId(row["user_id"]))
    return True


def account_beside(user_id: UserId, localpart: str) -> UserId:
    """Return the account of that local part on the same server."""
    return UserId(f"@{localpart}:{server_of(user_id)}")


async def _close_helper(adminbot: MatrixClient, database: Database, helper: UserId) -> None:
    try:
        # Closed and no admin: an account that could be reopened as one would be a back door.
        await adminbot.request("POST", f"{ADMIN}/v1/deactivate/{segment(helper)}", {"erase": True})
        await adminbot.request(
            "PUT", f"{ADMIN}/v1/users/{segment(helper)}/admin", {"admin": False}
        )
    except MatrixError as error:
        if error.errcode != "M_NOT_FOUND":  # it was never created
            log.error("a helper account could not be closed", account=helper, reason=error)
            return
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM identity_helper WHERE user_id = $1", helper)


async def _create_helper(adminbot: MatrixClient, helper: UserId, shared_secret: Secret) -> Secret:
    """Create an admin account with the shared secret (Synapse, "Shared-Secret Registration")."""
    name, password = localpart_of(helper), secrets.token_urlsafe(32)
    nonce = (await adminbot.request_as(None, "GET", f"{ADMIN}/v1/register"))["nonce"]
    signed = "\0".join((str(nonce), name, password, "admin")).encode()
    mac = hmac.new(shared_secret.reveal().encode(), signed, hashlib.sha1).hexdigest()
    try:
        answer = await adminbot.request_as(
            None,
            "POST",
            f"{ADMIN}/v1/register",
            {
                "nonce": nonce,
                "username": name,
                "password": password,
                "admin": True,
                "mac": mac,
            },
        )
    except MatrixError as error:
        raise PermanentError(
            "The homeserver refused homeserver.registration_shared_secret "
            f"({error.errcode}). Copy it again from homeserver.yaml."
        ) from error
    if "access_token" not in answer:
        # Where new accounts wait for approval (MSC3866), none is signed in when it is made.
        answer = await adminbot.request_as(
            None,
            "POST",
            f"{CLIENT}/v3/login",
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": name},
                "password": password,
            },
        )
    return Secret(str(answer["access_token"]))
