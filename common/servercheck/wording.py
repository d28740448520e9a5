"""Why an address could not be fetched, as a sentence, and what mends it."""

from datetime import datetime, timedelta

from common.i18n import Msg, n, t
from common.servercheck.findings import Finding, Level
from common.servercheck.port import OK, Certificate, Fetched, Refused, Trouble

NOT_FOUND = 404
SOON = timedelta(days=14)


def not_fetched(about: Msg, fetched: Fetched, level: Level, mend: Msg | None = None) -> Finding:
    """Return the finding that something has no answer; ``mend`` if it answers, but badly."""
    if fetched.trouble is not None:
        where = fetched.hops[-1].url if fetched.hops else fetched.url
        return refused(about, where, Refused(fetched.trouble, fetched.detail), level)
    status = fetched.status
    if status != OK:
        said = t("{url} answers with status {status}.", url=fetched.url, status=status)
    else:
        said = t("What {url} answers is no JSON object.", url=fetched.url)
    return Finding(level, about, said, mend)


def refused(about: Msg, where: str, why: Refused, level: Level) -> Finding:
    """Return the finding that somewhere cannot be connected to."""
    said, mend = _SAID[why.trouble](where, why.detail)
    return Finding(level, about, said, mend)


def lifetime(about: Msg, certificate: Certificate, now: datetime) -> Finding:
    """Return the finding about how long a good certificate is good for still."""
    left = certificate.expires - now
    said = n(
        "The certificate is good, for {count} day still.",
        "The certificate is good, for {count} days still.",
        max(0, left.days),
    )
    if left < SOON:
        return Finding(
            Level.WARNING, about, said, t("Renew it, and look why that does not happen by itself.")
        )
    return Finding(Level.GOOD, about, said)


def _unresolved(where: str, detail: str) -> tuple[Msg, Msg]:
    return (
        t("The name {host} has no address.", host=detail or where),
        t("Add an A or AAAA record for it to your DNS."),
    )


def _forbidden(where: str, detail: str) -> tuple[Msg, Msg]:
    return (
        t("{url} leads to {where}, where I do not look.", url=where, where=detail),
        t(
            "It must have a public address for others to reach it. If this is your own network on "
            "purpose, name it in adminbot.check_networks."
        ),
    )


def _port(where: str, detail: str) -> tuple[Msg, Msg]:
    return (
        t("{url} leads to port {port}, where I do not look.", url=where, port=detail),
        t("Use port 443, 8448, or one above 1023."),
    )


def _unreachable(where: str, _: str) -> tuple[Msg, Msg]:
    return (
        t("Nothing can be connected to at {url}.", url=where),
        t("Look if the web server runs and if a firewall lets others reach its port."),
    )


def _slow(where: str, _: str) -> tuple[Msg, Msg]:
    return (
        t("{url} does not answer in time.", url=where),
        t("Look if a firewall drops connections, and if the server is overloaded."),
    )


def _tls(where: str, detail: str) -> tuple[Msg, Msg]:
    return (
        t("The certificate at {url} is not good: {reason}.", url=where, reason=detail),
        t("Install a certificate for this name by a known authority, with its whole chain."),
    )


def _redirects(where: str, _: str) -> tuple[Msg, Msg]:
    return (
        t("{url} redirects too often.", url=where),
        t("Serve the file where it is asked for, or redirect once."),
    )


def _insecure(where: str, _: str) -> tuple[Msg, Msg]:
    return (
        t("{url} redirects to something else than https://.", url=where),
        t("Redirect to an https:// address."),
    )


def _large(where: str, _: str) -> tuple[Msg, Msg]:
    return (
        t("What {url} answers is too large.", url=where),
        t("Look if something else is served there."),
    )


def _broken(where: str, _: str) -> tuple[Msg, Msg]:
    return (
        t("What {url} answers is not HTTP, or the address is none.", url=where),
        t("Look if something else is served there."),
    )


_SAID = {
    Trouble.UNRESOLVED: _unresolved,
    Trouble.FORBIDDEN: _forbidden,
    Trouble.PORT: _port,
    Trouble.UNREACHABLE: _unreachable,
    Trouble.SLOW: _slow,
    Trouble.TLS: _tls,
    Trouble.REDIRECTS: _redirects,
    Trouble.INSECURE: _insecure,
    Trouble.LARGE: _large,
    Trouble.BROKEN: _broken,
}
