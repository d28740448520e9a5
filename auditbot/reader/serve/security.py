"""Who may look: one log-in by the address from the terminal, then a cookie; nothing else.

- The token in the address works once: it is used up when the log-in is written down, not before.
  What is kept of it and of the cookie is a hash.
- The Host header must be ours: a page elsewhere whose name points here (DNS rebinding) gets
  nothing. What changes something must come from our own page (Origin).
- No script runs, nothing is loaded from anywhere, nothing may frame us or is cached.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from common.clock import Clock

COOKIE = "steward_audit"
_SESSION_SECONDS = 12 * 3600

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    # Not “no-referrer”: browsers would then hide our own Origin from us.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), interest-cohort=()",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Door:
    """Lets in whoever has the token, once, and then whoever has the cookie."""

    clock: Clock
    _token: bytes | None = None
    _session: bytes | None = None
    _until: float = 0.0
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    """To be held from seeing that a token fits until it is used up."""

    def new_token(self) -> str:
        """Return a token that works once; an older one works no more."""
        token = secrets.token_urlsafe(32)
        self._token = _hash(token)
        return token

    def fits(self, token: str) -> bool:
        """Return whether a token is the right one; it still is afterwards."""
        # Wrong ones are not counted: nobody guesses 256 bits, and any page that the browser shows
        # could use up a number of tries, with pictures whose address is this one.
        return self._token is not None and hmac.compare_digest(_hash(token), self._token)

    def enter(self) -> str:
        """Use the token up; return the cookie of a new session."""
        self._token = None
        session = secrets.token_urlsafe(32)
        self._session = _hash(session)
        self._until = self.clock.monotonic() + _SESSION_SECONDS
        return session

    def knows(self, session: str) -> bool:
        """Return whether a cookie is that of the session."""
        if self._session is None or self.clock.monotonic() > self._until:
            return False
        return hmac.compare_digest(_hash(session), self._session)

    def leave(self) -> None:
        """End the session."""
        self._session = None


@dataclass(frozen=True)
class Hosts:
    """The values of the Host header that are ours; ``proxied``: those of a proxy with TLS."""

    own: frozenset[str]
    proxied: frozenset[str] = frozenset()


def guard(door: Door, hosts: Hosts) -> Handler:
    """Return what stands before every page."""

    @web.middleware
    async def stand(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _refusal(request, door, hosts)
        if refusal is not None:
            return refusal
        try:
            return await handler(request)
        except web.HTTPRedirection:
            raise
        except web.HTTPException as error:
            return web.Response(status=error.status, text=error.reason)

    return stand  # type: ignore[return-value]  # aiohttp's own type of a middleware


async def protect(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on every answer before it goes, those of failures included."""
    del request
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _refusal(request: web.Request, door: Door, hosts: Hosts) -> web.Response | None:
    if _host(request) not in hosts.own | hosts.proxied:
        return web.Response(
            status=421,
            text="This address is not served here. If it is yours, start “steward audit serve” "
            "with --name and what stands in it after http:// or https://, the port included.",
        )
    if request.method not in {"GET", "HEAD"} and not _is_own(request, hosts):
        return web.Response(status=403, text="This was not asked for by Steward's own page.")
    if request.path in {"/login", "/look.css", "/favicon.ico"}:
        return None
    if not door.knows(request.cookies.get(COOKIE, "")):
        return web.Response(
            status=401,
            text="Open the address that “steward audit serve” printed; it works once. "
            "For a new one start it again.",
        )
    return None


def _is_own(request: web.Request, hosts: Hosts) -> bool:
    origin = request.headers.get("Origin", "").lower()
    fetched = request.headers.get("Sec-Fetch-Site", "same-origin")
    host = _host(request)
    ours = {f"http://{host}"} | ({f"https://{host}"} if host in hosts.proxied else set())
    return origin in ours and fetched == "same-origin"


def _host(request: web.Request) -> str:
    return request.headers.get("Host", "").lower()


def let_in(request: web.Request, session: str) -> web.Response:
    """Return the answer that gives a browser its cookie."""
    response = web.Response(status=303, headers={"Location": "/"})
    response.set_cookie(
        COOKIE,
        session,
        httponly=True,
        samesite="Strict",
        # Whoever lies about it harms nobody but themselves: their cookie goes nowhere.
        secure=request.headers.get("X-Forwarded-Proto", "").lower() == "https",
        max_age=_SESSION_SECONDS,
        path="/",
    )
    return response


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
