"""Who is given the bot's room keys, and who is told that they are not.

Source: Matrix specification v1.18, client-server API, "m.room_key.withheld"; MSC4153 (devices
that their owner has not cross-signed are excluded).
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

from common.crypto.account import MEGOLM
from common.crypto.canonical import Json
from common.crypto.devices import Device
from common.crypto.port import DeviceAddress, Trust
from common.crypto.tracking import KnownDevice
from common.crypto.wire import DEVICES_A_SEND, Wire, batches
from common.database.pool import Connection, Database
from common.errors import TransientError
from common.telemetry.log import Log

_UNVERIFIED = {"code": "m.unverified", "reason": "The device is not verified by its owner."}
_NO_OLM = {"code": "m.no_olm", "reason": "No encrypted channel to the device could be made."}

_log = Log("crypto.sharing")


class ShareWith(StrEnum):
    """Which of the members' devices get room keys."""

    ALL = "all"
    CROSS_SIGNED = "cross_signed"

    def choose(self, known: Iterable[KnownDevice]) -> tuple[list[Device], list[Device]]:
        """Return the devices that get keys, and those that do not."""
        given: list[Device] = []
        refused: list[Device] = []
        for one in known:
            signed = one.trust in {Trust.CROSS_SIGNED, Trust.IDENTITY_CHANGED}
            (given if self is ShareWith.ALL or signed else refused).append(one.device)
        return given, refused


class Withholding:
    """Tells devices once for each session why they do not get its key.

    It is news and no more: a homeserver that is away keeps no message from being sent.
    """

    def __init__(self, me: DeviceAddress, database: Database, wire: Wire) -> None:
        self._me = me
        self._database = database
        self._wire = wire

    async def tell_unverified(
        self, room_id: str, session_id: str, devices: Collection[Device], *, sender_key: str
    ) -> None:
        """Say that the policy leaves these devices out."""
        content = {
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": session_id,
            "sender_key": sender_key,
            **_UNVERIFIED,
        }
        await self._tell(room_id, session_id, devices, content)

    async def tell_no_olm(self, devices: Collection[Device], *, sender_key: str) -> None:
        """Say that no Olm session could be made; once until there is one."""
        content = {"algorithm": MEGOLM, "sender_key": sender_key, **_NO_OLM}
        await self._tell("", "", devices, content)

    async def forget_session(self, conn: Connection, room_id: str) -> None:
        """Forget who was told of a room's session: it has a new one."""
        await conn.execute(
            "DELETE FROM crypto_withheld_told"
            " WHERE bot_id = $1 AND device_id = $2 AND room_id = $3",
            *self._me,
            room_id,
        )

    async def forget_no_olm(self, conn: Connection, devices: Iterable[Device]) -> None:
        """Forget that these devices could not be reached: now they can."""
        await conn.executemany(
            "DELETE FROM crypto_withheld_told WHERE bot_id = $1 AND device_id = $2"
            " AND room_id = '' AND session_id = '' AND user_id = $3 AND recipient_device = $4",
            [(*self._me, *device.address) for device in devices],
        )

    async def _tell(
        self, room_id: str, session_id: str, devices: Collection[Device], content: Json
    ) -> None:
        addresses = {device.address for device in devices}
        if not addresses:
            return
        try:
            new = sorted(addresses - await self._told(room_id, session_id))
            for some in batches(new, DEVICES_A_SEND):
                contents = dict.fromkeys(some, content)
                await self._wire.send_to_device("m.room_key.withheld", contents)
                await self._note_told(room_id, session_id, some)
        except TransientError as error:
            _log.info("devices were not told that they get no key", reason=error)
            return
        if new:
            _log.info("devices get no room key", code=content["code"], count=len(new))

    async def _told(self, room_id: str, session_id: str) -> set[DeviceAddress]:
        rows = await self._database.fetch(
            "SELECT user_id, recipient_device FROM crypto_withheld_told"
            " WHERE bot_id = $1 AND device_id = $2 AND room_id = $3 AND session_id = $4",
            *self._me,
            room_id,
            session_id,
        )
        return {DeviceAddress(row["user_id"], row["recipient_device"]) for row in rows}

    async def _note_told(
        self, room_id: str, session_id: str, devices: Sequence[DeviceAddress]
    ) -> None:
        async with self._database.transaction() as conn:
            await conn.executemany(
                "INSERT INTO crypto_withheld_told"
                " (bot_id, device_id, room_id, session_id, user_id, recipient_device)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                [(*self._me, room_id, session_id, *device) for device in devices],
            )
