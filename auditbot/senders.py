"""What sort of account wrote an event: our own, or what adminbot knows of this server's accounts."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from common.clock import Clock
from common.database.pool import Connection

MOST_KNOWN = 20_000
ASK_AGAIN_MS = 600_000
"""An account may turn out to be a bridge's only when that bridge is found."""

_KINDS = {"person": "human", "guest": "guest", "bridged": "bridge_ghost", "bot": "bot"}


@dataclass
class SenderKinds:
    """Kinds of senders (EXPORT_FORMAT: ``sender_kind``); who is not known is missing.

    Of other servers' people nothing can be known, of an account its first seconds neither.
    """

    own: Mapping[str, str]
    server_name: str
    clock: Clock
    _known: dict[str, str] = field(default_factory=dict)
    _since_ms: int = 0

    async def of(self, connection: Connection, senders: Collection[str]) -> Mapping[str, str]:
        """Return what is known of these senders."""
        now_ms = self.clock.now_ms()
        if now_ms - self._since_ms > ASK_AGAIN_MS or len(self._known) > MOST_KNOWN:
            self._known, self._since_ms = {}, now_ms
        local = f":{self.server_name}"
        asked = sorted(
            sender
            for sender in senders
            if sender.endswith(local) and sender not in self.own and sender not in self._known
        )
        if asked:
            places = ", ".join(f"${number}" for number in range(1, len(asked) + 1))
            rows = await connection.fetch(
                f"SELECT user_id, kind FROM admin_account WHERE user_id IN ({places})",  # noqa: S608  # numbers
                *asked,
            )
            self._known.update(
                {row["user_id"]: _KINDS[row["kind"]] for row in rows if row["kind"] in _KINDS}
            )
        return {
            **{sender: self._known[sender] for sender in senders if sender in self._known},
            **self.own,
        }
