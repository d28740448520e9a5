"""A time stamping authority: ``openssl ts`` behind a small web server on loopback."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

_CONFIG = """
[tsa]
default_tsa = ours
[ours]
dir = .
serial = serial
crypto_device = builtin
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
[extensions]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
"""


@dataclass
class Authority:
    """The authority; ``status`` other than 200 is a failure, ``answer`` is given instead."""

    folder: Path
    url: str = ""
    status: int = 200
    answer: bytes | None = None
    asked: list[bytes] = field(default_factory=list)

    @property
    def roots(self) -> Path:
        """Where its certificate is."""
        return self.folder / "root.pem"

    def make_keys(self) -> None:
        """Make a root, and a key that it allows to stamp."""
        self.folder.mkdir()
        (self.folder / "ts.cnf").write_text(_CONFIG)
        (self.folder / "serial").write_text("01\n")
        new = ("req", "-newkey", "rsa:2048", "-nodes", "-config", "ts.cnf")
        root = ("-x509", "-keyout", "root.key", "-out", "root.pem", "-extensions", "root")
        self._openssl(*new, *root, "-subj", "/CN=Root")
        self._openssl(*new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=TSA")
        signed = ("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key")
        allowed = ("-extfile", "ts.cnf", "-extensions", "extensions")
        self._openssl(*signed, "-CAcreateserial", "-out", "tsa.pem", *allowed)

    def stamp(self, query: bytes) -> bytes:
        """Return the answer to a query."""
        (self.folder / "query.tsq").write_bytes(query)
        files = ("-queryfile", "query.tsq", "-out", "answer.tsr")
        self._openssl("ts", "-reply", "-config", "ts.cnf", *files)
        return (self.folder / "answer.tsr").read_bytes()

    def stamp_of(self, digest: str, algorithm: str) -> bytes:
        """Return the answer to a query for some digest."""
        made = ("-digest", digest, f"-{algorithm}", "-cert", "-out", "other.tsq")
        self._openssl("ts", "-query", *made)
        return self.stamp((self.folder / "other.tsq").read_bytes())

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request."""
        assert request.content_type == "application/timestamp-query"
        query = await request.read()
        self.asked.append(query)
        if self.status != web.HTTPOk.status_code:
            return web.Response(status=self.status)
        body = self.answer
        if body is None:
            body = await asyncio.to_thread(self.stamp, query)
        return web.Response(body=body, content_type="application/timestamp-reply")

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


@asynccontextmanager
async def authority(folder: Path) -> AsyncIterator[Authority]:
    """Run an authority whose keys are in a folder."""
    running = Authority(folder)
    await asyncio.to_thread(running.make_keys)
    application = web.Application()
    application.router.add_post("/", running.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        running.url = f"http://{host}:{port}/"
        yield running
    finally:
        await runner.cleanup()
