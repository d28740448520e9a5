"""What this machine cosigned last of each stream: the next checkpoint has to extend it.

It is written before a cosignature leaves this machine, and known by the stream's own name, wherever
the archive lies: a copy that was set back is not cosigned as if it were another archive.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from auditbot.reader.memory import private_directory, write_private
from auditbot.reader.parse import parse
from common.errors import PermanentError
from common.officers import LATEST_S

FILE = "cosigned.json"
_LARGEST = 2**24


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint that was cosigned; ``root`` in hex, ``place`` where the archive was."""

    size: Annotated[int, Meta(ge=0, le=LATEST_S)]
    root: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    time_s: Annotated[int, Meta(ge=0, le=LATEST_S)]
    place: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    key: str
    heads: dict[str, Head]


@dataclass(frozen=True, slots=True)
class Seen:
    """The file; ``key`` is the verifier key that it belongs to."""

    path: Path
    key: str

    def begin(self) -> None:
        """Write down that nothing was cosigned yet.

        Raises:
            PermanentError: it cannot be written.
        """
        self.keep({})

    def heads(self) -> dict[str, Head]:
        """Return what was cosigned last, by the streams' origins.

        Raises:
            PermanentError: the file is missing or damaged, or belongs to another key.
        """
        try:
            with self.path.open("rb") as file:
                known = parse(file.read(_LARGEST), type=_File)
        except FileNotFoundError:
            known = None
        except OSError as error:
            raise PermanentError(f"“{self.path}” cannot be read: {error.strerror}.") from None
        except ValueError:
            known = None
        if known is None or known.v != 1 or known.key != self.key:
            raise PermanentError(
                f"“{self.path}”, which remembers what this key cosigned, is missing, damaged or of "
                "another key, so nothing is cosigned: bring it back from a backup. If there is none, "
                "make a new key with another --home, and have that written down beside the old one."
            )
        return known.heads

    def keep(self, heads: dict[str, Head]) -> None:
        """Remember what is cosigned now.

        Raises:
            PermanentError: it cannot be written.
        """
        private_directory(self.path.parent)
        write_private(self.path, msgspec.json.encode(_File(1, self.key, heads)) + b"\n")
