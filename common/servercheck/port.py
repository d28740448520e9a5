"""What a check sees of the network, and the port through which it looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from common.crypto.canonical import parse_object

OK = 200


class Trouble(StrEnum):
    """Why there is no answer."""

    UNRESOLVED = "unresolved"
    """The name has no address."""
    FORBIDDEN = "forbidden"
    """It leads to a private address."""
    PORT = "port"
    """It leads to the port of some other service."""
    UNREACHABLE = "unreachable"
    SLOW = "slow"
    TLS = "tls"
    """The certificate is not good for the name; the detail says why."""
    REDIRECTS = "redirects"
    """Too many of them."""
    INSECURE = "insecure"
    """A redirect leads to something else than ``https://``."""
    LARGE = "large"
    BROKEN = "broken"
    """What came was no HTTP."""


@dataclass(frozen=True)
class Hop:
    """One response on the way; names of headers are in lower case. All of it is hostile."""

    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetched:
    """What came of asking for an address; the last hop has the body."""

    url: str
    hops: tuple[Hop, ...] = ()
    body: bytes = b""
    trouble: Trouble | None = None
    detail: str = ""

    @property
    def status(self) -> int | None:
        """The last status."""
        return self.hops[-1].status if self.hops else None

    @property
    def good(self) -> bool:
        """Whether it was found."""
        return self.trouble is None and self.status == OK

    @property
    def json(self) -> dict[str, Any] | None:
        """The body, if it is a JSON object."""
        return parse_object(self.body) if self.good else None

    def header(self, name: str) -> str:
        """Return a header of the last hop, or ``""``."""
        return self.hops[-1].headers.get(name, "") if self.hops else ""


@dataclass(frozen=True)
class Certificate:
    """A certificate that is good for the name it was asked for."""

    expires: datetime


@dataclass(frozen=True)
class Refused:
    """There is no good certificate."""

    trouble: Trouble
    detail: str = ""


@dataclass(frozen=True)
class Srv:
    """An SRV record (RFC 2782)."""

    target: str
    port: int


class Internet(Protocol):
    """The way out."""

    async def get(self, url: str, *, via: Srv | None = None, host: str | None = None) -> Fetched:
        """GET, following redirects; connect to ``via`` instead of the address's host and port.

        Never raises for what the other side does. ``host`` is the header of that name.
        """
        ...

    async def certificate(
        self, host: str, port: int, *, via: Srv | None = None
    ) -> Certificate | Refused:
        """Return the certificate that is shown for a name."""
        ...

    async def srv(self, name: str) -> tuple[Srv, ...]:
        """Return the SRV records of a name, the first to be tried first; none if there are none."""
        ...
