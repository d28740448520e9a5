"""What was found out about a server, before anybody judges it."""

from dataclasses import dataclass
from enum import StrEnum

from common.servercheck.names import ServerName
from common.servercheck.port import Certificate, Fetched, Refused, Srv


class By(StrEnum):
    """What tells other servers where to connect."""

    NAME = "name"
    """The name itself: it is an address, or has a port."""
    FILE = "file"
    SRV = "srv"
    OLD_SRV = "old_srv"
    """``_matrix._tcp``, which is deprecated."""
    DEFAULT = "default"
    """Port 8448."""


@dataclass(frozen=True)
class Delegation:
    """Where other servers connect: to ``target`` with a certificate for ``name``.

    ``via`` is the SRV record that was followed, ``named_by_file`` whether the file named ``name``.
    """

    name: ServerName
    by: By
    port: int
    via: Srv | None = None
    named_by_file: bool = False

    @property
    def target(self) -> str:
        """Host and port, as people write them."""
        if self.via is not None:
            return f"{self.via.target}:{self.via.port}"
        return f"{self.name.in_url}:{self.port}"


@dataclass(frozen=True)
class ClientFacts:
    """What clients meet. ``base_url`` is from the file, or the name itself."""

    file: Fetched
    base_url: str
    versions: Fetched
    login: Fetched
    auth_metadata: Fetched
    certificate: Certificate | Refused | None


@dataclass(frozen=True)
class ServerFacts:
    """What other servers meet; there is no ``file`` where the name itself has a port."""

    file: Fetched | None
    delegation: Delegation
    version: Fetched
    keys: Fetched
    certificate: Certificate | Refused


@dataclass(frozen=True)
class Facts:
    """Everything about one name."""

    name: ServerName
    client: ClientFacts
    server: ServerFacts
    support: Fetched
