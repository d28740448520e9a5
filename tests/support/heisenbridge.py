"""A real Heisenbridge, in its own environment, beside a homeserver of the tests."""

import json
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from common.config.secret import Secret
from common.demo.process import LOOPBACK, Child, Program, ServerError
from common.demo.servers import answers, free_port
from common.ids import UserId

ROOT = Path(__file__).parents[2]


def tool(bridge: str) -> Path:
    """Return the Python of a bridge's own environment."""
    python = ROOT / ".bridges" / bridge / "bin" / "python"
    if not python.exists():
        raise ServerError(f"The bridge {bridge} is not installed: make .bridges/{bridge}/done")
    return python


class Heisenbridge:
    """The bridge; its registration file is there from the start."""

    def __init__(
        self, directory: Path, homeserver_url: str, server_name: str, owner: UserId
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.bot = UserId(f"@heisenbridge:{server_name}")
        self.as_token = Secret(secrets.token_urlsafe(32))
        self.registration_path = directory / "registration.yaml"
        self.registration_path.write_text(json.dumps(self._registration(server_name)))
        self.child = Child(
            Program(
                name="Heisenbridge",
                command=[
                    str(tool("heisenbridge")),
                    "-m",
                    "heisenbridge",
                    "-v",
                    "-c",
                    str(self.registration_path),
                    "-o",
                    owner,
                    homeserver_url,
                ],
                log=directory / "heisenbridge.log",
                directory=directory,
                ports=[self.port],
            )
        )

    def _registration(self, server_name: str) -> dict[str, object]:
        # As `heisenbridge --generate` writes it, with the server's name added to the expression.
        name = server_name.replace(".", "\\.")
        return {
            "id": "heisenbridge",
            "url": self.url,
            "as_token": self.as_token.reveal(),
            "hs_token": secrets.token_urlsafe(32),
            "rate_limited": False,
            "sender_localpart": "heisenbridge",
            "namespaces": {
                "users": [{"regex": f"@irc_.*:{name}", "exclusive": True}],
                "aliases": [],
                "rooms": [],
            },
        }

    async def start(self) -> None:
        """Start and wait until it runs."""
        await self.child.start()
        await self.child.wait_until_ready(
            lambda: answers(f"{self.url}/_matrix/mau/live"), deadline_seconds=120
        )

    async def stop(self) -> None:
        await self.child.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def log(self) -> str:
        return self.child.program.log.read_text(errors="replace")
