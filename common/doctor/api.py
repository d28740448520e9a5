"""The few requests the doctor makes of a homeserver, told apart by every way they can end."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from common.config.schema import Config
from common.errors import TransientError
from common.i18n import t

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Reply:
    """An answer, whatever its status; ``body`` is empty unless it was a JSON object."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the request was carried out."""
        return self.status == 200  # noqa: PLR2004  # HTTP's OK

    @property
    def errcode(self) -> str:
        """The specification's error code, empty if there is none."""
        return str(self.body.get("errcode", ""))

    def __str__(self) -> str:
        said = self.body.get("error", "")
        return " ".join(part for part in (str(self.status), self.errcode, str(said)[:200]) if part)


@dataclass(frozen=True)
class HomeserverApi:
    """Requests with Steward's own as_token."""

    config: Config
    session: aiohttp.ClientSession

    async def ask(
        self,
        method: str,
        path: str,
        *,
        user_id: str | None = None,
        body: Mapping[str, object] | None = None,
        with_token: bool = True,
    ) -> Reply:
        """Send one request.

        Raises:
            TransientError: there was no answer; the sentence's part says why.
        """
        settings = self.config.homeserver
        is_admin_call = path.startswith("/_synapse/")
        base = (settings.admin_url if is_admin_call else None) or settings.url
        token = self.config.appservice.as_token.reveal()
        try:
            async with self.session.request(
                method,
                f"{base}{path}",
                params={} if user_id is None else {"user_id": user_id},
                json=body,
                headers={"Authorization": f"Bearer {token}"} if with_token else {},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                allow_redirects=False,
            ) as response:
                content = await response.read()
                return Reply(
                    response.status, _json_object(content), response.headers.get("Date", "")
                )
        except TimeoutError:
            seconds = f"{TIMEOUT_SECONDS:g}"
            raise TransientError(t("no answer within {seconds} s", seconds=seconds)) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise TransientError(
                t("its certificate is not accepted: {reason}", reason=error.certificate_error)
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(reason(error)) from None


def reason(error: Exception) -> str:
    """Return why a connection failed, without the library's words around it."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, OSError) and inner.errno is not None and inner.errno > 0:
        return os.strerror(inner.errno)
    # Name resolution has numbers of its own, below zero.
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return str(text).splitlines()[0]


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
