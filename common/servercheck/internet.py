"""The way out to other people's servers, which cannot be led astray.

Each host is resolved first; only public addresses are connected to, and exactly the one that was
looked at: the name is not resolved a second time. Redirects are followed by hand, each hop like
the first. Sizes, times and hops are limited; there are no proxies, cookies or credentials.
"""

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
import dns.asyncresolver
import dns.exception
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from common.servercheck.addresses import Network, may_connect
from common.servercheck.port import Certificate, Fetched, Hop, Refused, Srv, Trouble

MOST_HOPS = 5
LARGEST_BODY = 50 * 1024
"""Bytes; what Synapse reads of a well-known file."""
LARGEST_HEADER = 8190
PATIENCE_SECONDS = 8.0
DNS_SECONDS = 3.0
LONGEST_URL = 4096
MOST_RECORDS = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEPT = frozenset(
    {"access-control-allow-origin", "content-type", "content-encoding", "location", "server"}
)
# Anything below is some other service, whose port must not be knocked at through us.
_LOWEST_FREE_PORT = 1024
_USUAL_PORTS = frozenset({443})

Endpoint = tuple[str, int]
"""Address and port."""


class Names(Protocol):
    """The name service."""

    async def endpoints(self, host: str, port: int) -> Sequence[Endpoint]:
        """Return where a host's port is; empty if the name has no address."""
        ...

    async def srv(self, name: str) -> Sequence[Srv]:
        """Return SRV records in the order to try them; empty if there are none."""
        ...


class SystemNames:
    """The name service of this machine."""

    async def endpoints(self, host: str, port: int) -> Sequence[Endpoint]:
        """Return where a host's port is."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DNS_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            return []
        return list(dict.fromkeys((str(each[4][0]), int(each[4][1])) for each in found))

    async def srv(self, name: str) -> Sequence[Srv]:
        """Return SRV records, by priority and then by weight."""
        try:
            answer = await dns.asyncresolver.resolve(name, "SRV", lifetime=DNS_SECONDS)
        except (dns.exception.DNSException, OSError, ValueError):
            return []
        records = sorted(answer, key=lambda each: (each.priority, -each.weight))
        hosts = [(str(each.target).rstrip("."), int(each.port)) for each in records]
        return [Srv(host, port) for host, port in hosts[:MOST_RECORDS] if host]


@dataclass(frozen=True)
class _Found:
    """Where a host may be connected to."""

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True)
class SafeInternet:
    """The way out; ``exceptions`` are private networks that may be reached all the same."""

    names: Names = field(default_factory=SystemNames)
    exceptions: tuple[Network, ...] = ()
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    patience_seconds: float = PATIENCE_SECONDS

    async def get(self, url: str, *, via: Srv | None = None, host: str | None = None) -> Fetched:
        """GET and follow redirects; whatever goes wrong is told by the result."""
        hops: list[Hop] = []
        try:
            here, target, header = URL(url), via, host
            async with asyncio.timeout(self.patience_seconds):
                while True:
                    found = await self._found(here, target)
                    if isinstance(found, Refused):
                        return _told(url, hops, found)
                    hop, body = await self._once(here, found, header)
                    hops.append(hop)
                    onwards = hop.headers.get("location") if hop.status in _REDIRECTS else None
                    if onwards is None:
                        return Fetched(url, tuple(hops), body)
                    if len(hops) > MOST_HOPS:
                        return _told(url, hops, Refused(Trouble.REDIRECTS))
                    here, target, header = here.join(URL(onwards)), None, None
        except _TooLargeError:
            return _told(url, hops, Refused(Trouble.LARGE))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _told(url, hops, _why(error))

    async def certificate(
        self, host: str, port: int, *, via: Srv | None = None
    ) -> Certificate | Refused:
        """Shake hands and return the certificate."""
        found = await self._found(URL.build(scheme="https", host=host, port=port), via)
        if isinstance(found, Refused):
            return found
        address, number = found.endpoints[0]
        try:
            async with asyncio.timeout(self.patience_seconds):
                _, writer = await asyncio.open_connection(
                    address, number, ssl=self.tls, server_hostname=host
                )
        except (TimeoutError, OSError, ValueError) as error:
            return _why(error)
        try:
            shown = writer.get_extra_info("peercert") or {}
        finally:
            writer.transport.abort()
        expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
        return Certificate(expires)

    async def srv(self, name: str) -> tuple[Srv, ...]:
        """Return the SRV records of a name."""
        return tuple(await self.names.srv(name))

    async def _found(self, url: URL, via: Srv | None) -> _Found | Refused:
        """Return the addresses at which an address may be asked."""
        if url.scheme != "https":
            return Refused(Trouble.INSECURE)
        host, port = (url.host or "", url.port or 0) if via is None else (via.target, via.port)
        if url.user is not None or not _is_plain(host) or len(str(url)) > LONGEST_URL:
            return Refused(Trouble.BROKEN)
        if port not in _USUAL_PORTS and port < _LOWEST_FREE_PORT:
            return Refused(Trouble.PORT, str(port))
        endpoints = await self.names.endpoints(host, port)
        if not endpoints:
            return Refused(Trouble.UNRESOLVED, host)
        allowed = [each for each in endpoints if may_connect(each[0], self.exceptions)]
        if not allowed:
            return Refused(Trouble.FORBIDDEN, endpoints[0][0])
        return _Found(tuple(allowed))

    async def _once(self, url: URL, found: _Found, host: str | None) -> tuple[Hop, bytes]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if host is not None:
            headers["Host"] = host
        # A literal in the address would not be asked of the resolver: it was checked as it is.
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(found), ssl=self.tls, use_dns_cache=False, force_close=True
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                max_line_size=LARGEST_HEADER,
                max_field_size=LARGEST_HEADER,
            ) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            kept = {
                name.lower(): value
                for name, value in response.headers.items()
                if name.lower() in _KEPT
            }
            body = await _read(response.content, response.headers.get("Content-Encoding", ""))
        return Hop(str(url), response.status, kept), body


class _Pinned(AbstractResolver):
    """Answers with what was looked at, whatever is asked."""

    def __init__(self, found: _Found) -> None:
        self._found = found

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002  # aiohttp's signature
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002  # aiohttp's signature
    ) -> list[ResolveResult]:
        """Return the addresses that were looked at."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=number,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address, number in self._found.endpoints
        ]

    async def close(self) -> None:
        """Nothing is open."""


class _TooLargeError(Exception):
    """The body has no end."""


async def _read(content: aiohttp.StreamReader, encoding: str) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise _TooLargeError
    if encoding.strip().lower() not in {"gzip", "x-gzip"}:
        return bytes(body)
    try:
        inflater = zlib.decompressobj(wbits=31)
        inflated = inflater.decompress(bytes(body), LARGEST_BODY + 1)
    except zlib.error:
        return bytes(body)
    if len(inflated) > LARGEST_BODY:
        raise _TooLargeError
    return inflated


def _told(url: str, hops: Sequence[Hop], refused: Refused) -> Fetched:
    return Fetched(url, tuple(hops), b"", refused.trouble, refused.detail)


def _why(error: Exception) -> Refused:
    certificate = _certificate_error(error)
    if certificate is not None:
        return Refused(Trouble.TLS, certificate)
    if isinstance(error, TimeoutError):
        return Refused(Trouble.SLOW)
    if isinstance(error, aiohttp.ClientConnectorError | OSError):
        return Refused(Trouble.UNREACHABLE)
    return Refused(Trouble.BROKEN)


def _certificate_error(error: BaseException) -> str | None:
    """Return why a certificate is not good, if that is what happened."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error = error.certificate_error
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        error = error.os_error
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return str(getattr(error, "reason", "") or "no TLS")
    return None


def _is_plain(host: str) -> bool:
    """Whether a host is a name or an address as it is usually written.

    “2130706433” is 127.0.0.1 to some and a name to others.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and not host.replace(".", "").isdigit()
    return True
