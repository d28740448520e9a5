"""A real clamd (ClamAV, of Debian) with one signature, so that nothing is downloaded."""

import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from auditbot.clamd import Clamd
from auditbot.pipeline.scan import ScannerAwayError
from common.demo.process import LOOPBACK, Child, Program, ServerError
from common.demo.servers import free_port

# In two parts: a scanner on the machine of whoever reads this may look at it too.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-" + rb"ANTIVIRUS-TEST-FILE!$H+H*"
SIGNATURE = "Steward.Test-Eicar.UNOFFICIAL"
LARGEST = 3 * 2**20
LOOKED_INTO = 2 * 2**20

_CONFIG = """\
DatabaseDirectory {directory}/signatures
TemporaryDirectory {directory}
LocalSocket {socket}
TCPSocket {port}
TCPAddr {host}
Foreground yes
LogSyslog no
StreamMaxLength {largest}
MaxFileSize {looked_into}
AlertExceedsMax yes
MaxThreads 4
SelfCheck 0
"""


class ClamdServer:
    """clamd; use it with ``async with``. ``socket`` and ``tcp`` are its addresses."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("clamd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            raise ServerError("The program “clamd” is missing: apt-get install clamav-daemon")
        (directory / "signatures").mkdir(parents=True)
        (directory / "signatures" / "test.ndb").write_text(
            f"Steward.Test-Eicar:0:0:{EICAR.hex()}\n"
        )
        self.socket = str(directory / "clamd.sock")
        port = free_port()
        self.tcp = f"{LOOPBACK}:{port}"
        config = directory / "clamd.conf"
        config.write_text(
            _CONFIG.format(
                directory=directory,
                socket=self.socket,
                port=port,
                host=LOOPBACK,
                largest=LARGEST,
                looked_into=LOOKED_INTO,
            )
        )
        self.child = Child(
            Program(
                name="clamd",
                command=[program, "--config-file", str(config)],
                log=directory / "clamd.log",
                directory=directory,
                ports=[port],
            )
        )

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        await self.child.start()
        await self.child.wait_until_ready(self._answers, 60)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.child.stop()

    async def _answers(self) -> bool:
        try:
            await Clamd(self.tcp).version()
            await Clamd(self.socket).version()
        except ScannerAwayError:
            return False
        return True
