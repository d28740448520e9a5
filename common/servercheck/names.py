"""Names of servers, apart into host and port.

Source: Matrix specification v1.18, appendices, "Server Name".
"""

import ipaddress
import re
from dataclasses import dataclass

from common.errors import UserError
from common.i18n import t

_LITERAL6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{1,5}))?")
_DNS = re.compile(r"([A-Za-z0-9.\-]{1,255})(?::([0-9]{1,5}))?")
_LARGEST_PORT = 65535


@dataclass(frozen=True)
class ServerName:
    """``host`` without brackets; ``port`` only where the name has one."""

    host: str
    port: int | None = None

    @property
    def is_literal(self) -> bool:
        """Whether the host is an address and no name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def in_url(self) -> str:
        """The host as it stands in an address."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return self.in_url if self.port is None else f"{self.in_url}:{self.port}"


def server_name_of(text: object) -> ServerName | None:
    """Return the name that an untrusted value is, or ``None``."""
    if not isinstance(text, str):
        return None
    found = _LITERAL6.fullmatch(text) or _DNS.fullmatch(text)
    if found is None:
        return None
    host, port = found[1].lower(), found[2]
    if port is not None and not 0 < int(port) <= _LARGEST_PORT:
        return None
    bracketed = text.startswith("[")
    if bracketed and not (":" in host and ServerName(host).is_literal):
        return None
    if not bracketed and not _is_dns_name(host):
        return None
    return ServerName(host, None if port is None else int(port))


def parse_server_name(text: str) -> ServerName:
    """Return the name, or raise ``UserError``."""
    name = server_name_of(text)
    if name is None:
        raise UserError(
            t("“{text}” is not the name of a server; one looks like example.org.", text=text)
        )
    return name


def _is_dns_name(host: str) -> bool:
    return all(0 < len(label) <= 63 for label in host.removesuffix(".").split("."))  # noqa: PLR2004  # RFC 1035, 2.3.4
