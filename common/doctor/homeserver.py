"""What can be asked of the homeserver: reachable, recognises us, lets us do our work."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from common.checks import Finding, broken, fine, noted
from common.clock import Clock
from common.config.registration import listener_url, user_ids
from common.config.schema import Config
from common.doctor.api import HomeserverApi, Reply
from common.doctor.listener import standing_in
from common.errors import TransientError
from common.i18n import Msg, t

OLDEST_TESTED = (1, 157)
WARN_SECONDS, FAIL_SECONDS = 5, 60

_REGISTERED = t(
    "list registration.yaml in homeserver.yaml under app_service_config_files and restart the "
    "homeserver"
)


@dataclass(frozen=True)
class HomeserverCheck:
    """All questions about the homeserver, in the order of the report."""

    config: Config
    clock: Clock
    api: HomeserverApi

    async def findings(self) -> list[Finding]:
        """Ask everything; what depends on an earlier answer is not asked without it."""
        try:
            reply = await self.api.ask("GET", "/_matrix/client/versions", with_token=False)
        except TransientError as error:
            return self._unreachable(str(error))
        if not reply.is_ok or not isinstance(reply.body.get("versions"), list):
            return self._unreachable(
                t("what answers there is no homeserver ({reply})", reply=reply)
            )
        found = [fine(t("The homeserver answers at {url}.", url=self.config.homeserver.url))]
        found += await self._in_order([self._version, self._token])
        found.insert(1, self._clock(reply))
        if not all(finding.ok is not False for finding in found[2:]):
            return [
                *found,
                noted(
                    t(
                        "Accounts, admin rights and the way back to Steward were not checked: "
                        "the homeserver must know Steward first."
                    )
                ),
            ]
        return found + await self._in_order(
            [self._msc4190, self._accounts, self._ping, self._notices]
        )

    def _unreachable(self, why: str) -> list[Finding]:
        url = self.config.homeserver.url
        return [
            broken(
                t("The homeserver does not answer at {url}: {reason}.", url=url, reason=why),
                mend=t(
                    "start it, or write its address in homeserver.url; nothing else about it "
                    "was checked"
                ),
            )
        ]

    async def _in_order(
        self, checks: Sequence[Callable[[], Awaitable[list[Finding]]]]
    ) -> list[Finding]:
        """Run checks at the same time; report them in the order given."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_kept_alive(check)) for check in checks]
        return [finding for task in tasks for finding in task.result()]

    async def _version(self) -> list[Finding]:
        reply = await self.api.ask("GET", "/_synapse/admin/v1/server_version")
        said = str(reply.body.get("server_version", ""))
        numbers = re.match(r"(\d+)\.(\d+)", said)
        if not reply.is_ok or numbers is None:
            return [
                noted(
                    t(
                        "The homeserver's version cannot be read ({reply}); it may not be "
                        "Synapse.",
                        reply=reply,
                    ),
                    mend=t(
                        "let the admin API through to Steward, at homeserver.admin_url if it "
                        "has an address of its own"
                    ),
                )
            ]
        if (int(numbers[1]), int(numbers[2])) < OLDEST_TESTED:
            oldest = ".".join(map(str, OLDEST_TESTED))
            return [
                noted(
                    t(
                        "Synapse is {version}, older than what Steward was written for.",
                        version=said,
                    ),
                    mend=t("upgrade Synapse to {version} or later", version=oldest),
                )
            ]
        return [fine(t("It is Synapse {version}.", version=said))]

    def _clock(self, reply: Reply) -> Finding:
        try:
            theirs = parsedate_to_datetime(reply.date)
        except ValueError:
            return noted(t("The homeserver does not tell the time (no Date header)."))
        ahead = (self.clock.now() - theirs).total_seconds()
        # The header has whole seconds, cut off.
        apart = max(0.0, abs(ahead) - 1)
        if apart <= WARN_SECONDS:
            return fine(t("Both clocks agree."))
        return Finding(
            ok=None if apart <= FAIL_SECONDS else False,
            what=_ahead(ahead),
            mend=t("set both clocks by NTP"),
        )

    async def _token(self) -> list[Finding]:
        reply = await self.api.ask("GET", "/_matrix/client/v3/account/whoami")
        if reply.status == 401:  # noqa: PLR2004  # M_UNKNOWN_TOKEN, specification 5.1.1
            return [
                broken(
                    t("The homeserver does not know appservice.as_token."),
                    mend=t(
                        "write the same as_token in the registration; {then}", then=_REGISTERED
                    ),
                )
            ]
        if not reply.is_ok:
            return [broken(t("The homeserver refuses the as_token ({reply}).", reply=reply))]
        sender, *_ = user_ids(self.config)
        actual = str(reply.body.get("user_id", ""))
        if actual == sender:
            return [fine(t("It accepts the as_token, as {sender}.", sender=sender))]
        theirs = actual.partition(":")[2]
        if theirs != self.config.homeserver.server_name:
            return [
                broken(
                    t(
                        "The homeserver calls itself {theirs}, homeserver.server_name says {ours}.",
                        theirs=theirs,
                        ours=self.config.homeserver.server_name,
                    ),
                    mend=t(
                        "write “server_name: {theirs}” and make the registration anew with "
                        "“steward config registration”",
                        theirs=theirs,
                    ),
                )
            ]
        return [
            broken(
                t(
                    "The registration's sender is {actual}, the configuration's {sender}.",
                    actual=actual,
                    sender=sender,
                ),
                mend=t("make sender_localpart the same in both and restart the homeserver"),
            )
        ]

    async def _msc4190(self) -> list[Finding]:
        # With the flag every appservice login is refused before anything else is looked at;
        # without it this one is refused because nobody has that name. Either way nothing happens.
        reply = await self.api.ask(
            "POST",
            "/_matrix/client/v3/login",
            body={
                "type": "m.login.application_service",
                "identifier": {"type": "m.id.user", "user": "@:"},
            },
        )
        if reply.errcode in {"M_APPSERVICE_LOGIN_UNSUPPORTED", "M_UNRECOGNIZED"}:
            # Unrecognised: accounts live in an authentication service, which implies MSC4190.
            return [fine(t("The bots' devices are made by the as_token (MSC4190)."))]
        return [
            broken(
                t("The homeserver's copy of the registration lacks “io.element.msc4190: true”."),
                mend=_AS_PRINTED,
            )
        ]

    async def _accounts(self) -> list[Finding]:
        _, *bots = user_ids(self.config)
        found: list[Finding] = []
        missing: list[str] = []
        for user in bots:
            reply = await self.api.ask("GET", "/_matrix/client/v3/account/whoami", user_id=user)
            if reply.is_ok:
                continue
            if "not registered" in str(reply.body.get("error", "")):
                missing.append(user)
            else:
                found.append(
                    broken(
                        t("Steward may not act as {user} ({reply}).", user=user, reply=reply),
                        mend=_AS_PRINTED,
                    )
                )
        if missing:
            found.append(
                noted(
                    t("Not registered yet: {users}.", users=", ".join(missing)),
                    mend=t("“steward run” registers them at its start"),
                )
            )
        if not found:
            found.append(fine(t("Registered: {users}.", users=", ".join(bots))))
        return found + ([] if bots[0] in missing else await self._admin_right(bots[0]))

    async def _admin_right(self, adminbot: str) -> list[Finding]:
        path = f"/_synapse/admin/v1/users/{quote(adminbot, safe='')}/admin"
        reply = await self.api.ask("GET", path, user_id=adminbot)
        if reply.is_ok and reply.body.get("admin") is True:
            return [fine(t("{user} is a server admin.", user=adminbot))]
        if reply.errcode not in {"M_FORBIDDEN", ""} or reply.is_ok:
            return [
                broken(t("Whether {user} is a server admin: {reply}.", user=adminbot, reply=reply))
            ]
        if reply.errcode == "":
            return [
                broken(
                    t("The admin API does not answer ({reply}).", reply=reply),
                    mend=t(
                        "let /_synapse/admin through to Steward, at homeserver.admin_url if it "
                        "has an address of its own"
                    ),
                )
            ]
        if self.config.homeserver.registration_shared_secret:
            return [
                noted(
                    t("{user} is not a server admin yet.", user=adminbot),
                    mend=t(
                        "“steward run” makes it one at its next start, with "
                        "registration_shared_secret"
                    ),
                )
            ]
        return [
            broken(
                t("{user} is not a server admin, so most commands would fail.", user=adminbot),
                mend=t("a server admin makes this one call: {call}", call=self._admin_call(path)),
            )
        ]

    async def _notices(self) -> list[Finding]:
        """Ask by a notice to nobody: Synapse says first whether it would send any at all."""
        adminbot = user_ids(self.config)[1]
        reply = await self.api.ask(
            "PUT",
            "/_synapse/admin/v1/send_server_notice/steward-doctor",
            user_id=adminbot,
            body={"user_id": "@nobody:steward.invalid", "content": {}},
        )
        if "not enabled" not in str(reply.body.get("error", "")):
            return []
        return [
            noted(
                "The homeserver sends no server notices, so “notice” and “motd” reach nobody.",
                mend="set server_notices in homeserver.yaml and restart the homeserver",
            )
        ]

    def _admin_call(self, path: str) -> str:
        base = self.config.homeserver.admin_url or self.config.homeserver.url
        return (
            "curl -X PUT -H 'Authorization: Bearer ADMIN_ACCESS_TOKEN' "
            f"""-H 'Content-Type: application/json' -d '{{"admin": true}}' '{base}{path}'"""
        )

    async def _ping(self) -> list[Finding]:
        service = self.config.appservice
        place = f"{service.listen_host}:{service.listen_port}"
        try:
            async with standing_in(self.config) as listener:
                reply = await self.api.ask(
                    "POST",
                    f"/_matrix/client/v1/appservice/{quote(service.id, safe='')}/ping",
                    body={"transaction_id": "steward-doctor"},
                )
                if listener is not None and listener.saw_wrong_token:
                    return [_WRONG_HS_TOKEN]
                if reply.is_ok and listener is not None and not listener.was_reached:
                    return [
                        broken(
                            t(
                                "The homeserver's ping was answered, but not by {place}.",
                                place=place,
                            ),
                            mend=t(
                                "the registration's url should lead there: {url}",
                                url=listener_url(self.config),
                            ),
                        )
                    ]
        except TransientError as error:
            return [
                broken(
                    t(
                        "The homeserver's way to Steward at {place}: {reason}.",
                        place=place,
                        reason=error,
                    ),
                    mend=t(
                        "correct appservice.listen_host and listen_port, or what stands between"
                    ),
                )
            ]
        if reply.is_ok:
            return [fine(t("It reaches Steward, with the right hs_token."))]
        refused = reply.errcode == "M_BAD_STATUS" and reply.body.get("status") in {401, 403}
        return [_WRONG_HS_TOKEN if refused else self._ping_fault(reply)]

    def _ping_fault(self, reply: Reply) -> Finding:
        url = listener_url(self.config)
        match reply.errcode:
            case "M_FORBIDDEN":
                return broken(
                    t(
                        "The homeserver knows this as_token under another id than “{id}”.",
                        id=self.config.appservice.id,
                    ),
                    t("make appservice.id and the registration's id the same"),
                )
            case "M_URL_NOT_SET":
                return broken(
                    t("The registration's url is null, so the homeserver sends nothing."),
                    t(
                        "write “url: {url}” in the registration and restart the homeserver",
                        url=url,
                    ),
                )
            case "M_CONNECTION_FAILED":
                return broken(
                    t(
                        "The homeserver cannot connect to Steward ({reason}).",
                        reason=reply.body.get("error", ""),
                    ),
                    t(
                        "the registration's url must lead from the homeserver to {url}; restart "
                        "the homeserver after changing it",
                        url=url,
                    ),
                )
            case "M_CONNECTION_TIMEOUT":
                return broken(
                    t("The homeserver's connection to Steward gets no answer."),
                    t("look for a firewall between the homeserver and {url}", url=url),
                )
            case "M_BAD_STATUS":
                return broken(
                    t(
                        "What answers the homeserver at the registration's url is not Steward "
                        "(HTTP {status}).",
                        status=reply.body.get("status"),
                    ),
                    t(
                        "the registration's url must lead to {url}, and no other program may have "
                        "that port",
                        url=url,
                    ),
                )
            case _:
                return broken(
                    t("The homeserver does not ping Steward ({reply}).", reply=reply),
                    t("upgrade it"),
                )


def _ahead(seconds: float) -> Msg:
    apart = f"{abs(seconds):.0f}"
    if seconds > 0:
        return t("This machine's clock is {seconds} s ahead of the homeserver's.", seconds=apart)
    return t("This machine's clock is {seconds} s behind the homeserver's.", seconds=apart)


_AS_PRINTED = t(
    "use the registration that “steward config registration” prints and restart the homeserver"
)


_WRONG_HS_TOKEN = broken(
    t("The homeserver reaches Steward with another hs_token than appservice.hs_token."),
    mend=t("write the same hs_token in both files; {then}", then=_REGISTERED),
)


async def _kept_alive(check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Turn a homeserver that went away in between into a finding; the others go on."""
    try:
        return await check()
    except TransientError as error:
        return [broken(t("The homeserver stopped answering: {reason}.", reason=error))]
