"""Record lines in our own database while they wait: sealed where the archive is encrypted.

Then no message is ever in clear text on this machine's disk on auditbot's account, neither in the
table nor in what a database leaves behind of deleted rows.
"""

from dataclasses import dataclass

from common.config.secret import Secret
from common.crypto.sealing import Sealer

_SEALED = b"\x01"
"""What no line begins with."""


@dataclass(frozen=True)
class Spool:
    """Seals and opens lines; a line opens under its own stream and number only."""

    sealer: Sealer

    def seal(self, line: bytes, *, stream: str, seq: int) -> bytes:
        """Return what is stored of a line."""
        return _SEALED + self.sealer.seal(line, name=_name(stream, seq))

    def open(self, kept: bytes, *, stream: str, seq: int) -> bytes:
        """Return the line that was stored, sealed or not."""
        if not kept.startswith(_SEALED):
            return kept
        return self.sealer.open(kept[len(_SEALED) :], name=_name(stream, seq))


def spool_of(pickle_key: Secret) -> Spool:
    """Return the spool of this configuration."""
    return Spool(Sealer(pickle_key))


def _name(stream: str, seq: int) -> str:
    return f"audit record {stream} {seq}"
