"""The accounts Steward acts as: registered, named, each bot with a device of its own."""

import hashlib
import hmac
import secrets

from common.config.schema import Config
from common.config.secret import Secret
from common.database.pool import Database
from common.errors import PermanentError
from common.ids import DeviceId, UserId, localpart_of
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


async def ensure_device(client: MatrixClient, database: Database, *, name: str) -> DeviceId:
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
        log.warning(
            "the device was deleted on the homeserver; a new one is made",
            account=client.user_id,
            device=known,
        )
    device_id = DeviceId(f"STEWARD{secrets.token_hex(5).upper()}")
    # Written down first: after a crash the same device is made, not a second one.
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO identity_device (user_id, device_id) VALUES ($1, $2)"
            " ON CONFLICT (user_id) DO UPDATE SET device_id = excluded.device_id",
            client.user_id,
            device_id,
        )
    await _make(client, device_id, name)
    return device_id


async def forget_device(database: Database, user_id: UserId) -> None:
    """Have ``ensure_device`` make a new device for the account."""
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM identity_device WHERE user_id = $1", user_id)


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


async def ensure_server_admin(adminbot: MatrixClient, shared_secret: Secret | None) -> bool:
    """Make adminbot a server admin where the shared secret allows it; return whether it is one.

    Only a server admin can make another one, and the shared secret can only create accounts.
    So a helper account with a random password is created as admin, grants the right, is
    deactivated for good and loses the right itself.
    """
    if await is_server_admin(adminbot):
        return True
    if not shared_secret:
        log.error(
            "adminbot is no server admin: most commands will fail; `steward doctor` prints the "
            "call that an admin has to make",
            account=adminbot.user_id,
        )
        return False
    helper, token = await _create_helper(adminbot, shared_secret)
    try:
        await adminbot.request_as(
            token,
            "PUT",
            f"{ADMIN}/v1/users/{segment(adminbot.user_id)}/admin",
            {"admin": True},
        )
    finally:
        await adminbot.request_as(
            token, "POST", f"{ADMIN}/v1/deactivate/{segment(helper)}", {"erase": True}
        )
    # A closed account that could be reopened as an admin would be a back door.
    await adminbot.request("PUT", f"{ADMIN}/v1/users/{segment(helper)}/admin", {"admin": False})
    log.info("adminbot was made a server admin", account=adminbot.user_id, through=helper)
    return True


async def _create_helper(adminbot: MatrixClient, shared_secret: Secret) -> tuple[UserId, Secret]:
    """Create an admin account with the shared secret (Synapse, "Shared-Secret Registration")."""
    name, password = f"steward-setup-{secrets.token_hex(6)}", secrets.token_urlsafe(32)
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
    return UserId(str(answer["user_id"])), Secret(str(answer["access_token"]))
