"""The check of a server, put together: ask, then judge."""

import asyncio
from dataclasses import dataclass, field

from common.clock import Clock
from common.errors import UserError
from common.i18n import t
from common.servercheck.facts import Facts
from common.servercheck.findings import Finding, Report, Support
from common.servercheck.gather import gather, support_file
from common.servercheck.judge_client import judge_client
from common.servercheck.judge_server import judge_server, judge_support
from common.servercheck.names import ServerName
from common.servercheck.port import Internet
from common.servercheck.support import support_of

AT_ONCE = 2


@dataclass(frozen=True)
class ServerCheck:
    """Checks of any server by its name; it changes nothing anywhere."""

    internet: Internet
    clock: Clock
    under_way: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def check(self, name: ServerName) -> Report:
        """Return what there is to say about a server; takes half a minute at worst.

        Raises:
            UserError: others are being checked, so that nobody holds up everything else
        """
        if self.under_way.locked():
            raise UserError(t("I am checking other servers just now; ask again in a minute."))
        async with self.under_way:
            return self.judge(await gather(name, self.internet))

    async def support(self, name: ServerName) -> Support | None:
        """Return whom to write to about a server, if it says so."""
        return support_of(await support_file(name, self.internet))

    def judge(self, facts: Facts) -> Report:
        """Return what facts mean now."""
        now = self.clock.now()
        findings: list[Finding] = [
            *judge_client(facts.client, now),
            *judge_server(facts, now),
            *judge_support(facts.support),
        ]
        return Report(str(facts.name), tuple(findings))
