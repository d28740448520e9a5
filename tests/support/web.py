"""Web servers with certificates of our own on loopback, under any name."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.servercheck.internet import Endpoint
from common.servercheck.port import Srv

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Authority:
    """An authority for certificates that only its own clients trust."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._certificate = self._sign(
            self._name, self._key.public_key(), timedelta(days=1000), authority=True
        )

    def pem(self) -> str:
        """Return its certificate, for others to trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def client(self) -> ssl.SSLContext:
        """Return what trusts this authority and no other."""
        return ssl.create_default_context(cadata=self.pem())

    def server(
        self, directory: Path, *names: str, lifetime: timedelta = timedelta(days=90)
    ) -> ssl.SSLContext:
        """Return a server's side with a certificate for some names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(directory, *names, lifetime=lifetime))
        return context

    def file(self, directory: Path, *names: str, lifetime: timedelta = timedelta(days=90)) -> Path:
        """Return a PEM file with a key and a certificate for some names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(subject, key.public_key(), lifetime, names=names)
        file = directory / f"{names[0]}-{certificate.serial_number}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def _sign(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        lifetime: timedelta,
        *,
        names: Sequence[str] = (),
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)  # noqa: TID251  # TLS libraries have no other clock
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if authority:
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class FakeNames:
    """A name service that says what a test wants; it counts how often it was asked."""

    hosts: dict[tuple[str, int], Sequence[Endpoint]] = field(default_factory=dict)
    records: dict[str, Sequence[Srv]] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def endpoints(self, host: str, port: int) -> Sequence[Endpoint]:
        self.asked.append((host, port))
        return self.hosts.get((host, port), ())

    async def srv(self, name: str) -> Sequence[Srv]:
        return self.records.get(name, ())


@dataclass
class WebServer:
    """A running server; ``seen`` are the addresses it was asked for, with their ``Host``."""

    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)

    @property
    def endpoint(self) -> Endpoint:
        return ("127.0.0.1", self.port)


@asynccontextmanager
async def web_server(tls: ssl.SSLContext | None, handler: Handler) -> AsyncIterator[WebServer]:
    """Run a server on loopback that answers everything with a handler."""
    server = WebServer()

    async def answer(request: web.Request) -> web.StreamResponse:
        server.seen.append((request.headers["Host"], request.path))
        return await handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
