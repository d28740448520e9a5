"""Can clients, Element in a browser among them, find and use the homeserver?

Source: Matrix specification v1.18, client-server API, "Server discovery", "Web browser clients",
"OAuth 2.0 API"; MSC4186 (sliding sync), MSC4143 (calls).
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from common.crypto.canonical import object_of, text_of
from common.i18n import Msg, t
from common.servercheck.facts import ClientFacts
from common.servercheck.findings import Finding, Level
from common.servercheck.gather import base_url_of
from common.servercheck.port import Fetched, Refused
from common.servercheck.wording import NOT_FOUND, lifetime, not_fetched, refused

SLIDING_SYNC = "org.matrix.simplified_msc3575"
OLD_SLIDING_SYNC = "org.matrix.msc3575.proxy"
CALLS = "org.matrix.msc4143.rtc_foci"
OLD_AUTHENTICATION = "org.matrix.msc2965.authentication"


def judge_client(facts: ClientFacts, now: datetime) -> Iterator[Finding]:
    """Yield what there is to say of the way that clients go."""
    yield from _file(facts)
    yield from _certificate(facts, now)
    yield from _versions(facts)
    yield from _authentication(facts)
    yield from _calls(facts)


def cors(about: Msg, fetched: Fetched, level: Level = Level.PROBLEM) -> Iterator[Finding]:
    """Yield a finding for each response on the way that a browser would not hand on."""
    for hop in fetched.hops:
        if hop.headers.get("access-control-allow-origin", "").strip() != "*":
            yield Finding(
                level,
                about,
                t(
                    "{url} does not send the header Access-Control-Allow-Origin: *, so browsers "
                    "keep its answer from Element.",
                    url=hop.url,
                ),
                t("Add that header there, also to redirects."),
            )


def content_type(about: Msg, fetched: Fetched) -> Iterator[Finding]:
    """Yield a finding if a file is not said to be JSON."""
    said = fetched.header("content-type")
    if said.partition(";")[0].strip().lower() != "application/json":
        yield Finding(
            Level.WARNING,
            about,
            t("It is served as “{type}”.", type=said or "-"),
            t("Serve it with Content-Type: application/json."),
        )


def _file(facts: ClientFacts) -> Iterator[Finding]:
    about, file = t("Client file"), facts.file
    mend = t(
        "Serve {url} with {content}.",
        url=file.url,
        content='{"m.homeserver": {"base_url": "https://…"}}',
    )
    if file.trouble is None and file.status == NOT_FOUND:
        if facts.versions.good:
            said = t("There is none; the homeserver is where the name leads, so it is found.")
            yield Finding(Level.NOTE, about, said, mend)
        else:
            said = t("There is none: people must type the homeserver's address.")
            yield Finding(Level.PROBLEM, about, said, mend)
        return
    if file.json is None:
        yield not_fetched(about, file, Level.PROBLEM, mend)
        return
    yield from cors(about, file)
    yield from content_type(about, file)
    base = base_url_of(file)
    if base is None:
        said = t("It has no “base_url” that is an https:// address.")
        yield Finding(Level.PROBLEM, about, said, mend)
        return
    yield Finding(Level.GOOD, about, t("It leads to {url}.", url=base))


def _certificate(facts: ClientFacts, now: datetime) -> Iterator[Finding]:
    about, shown = t("Homeserver's certificate"), facts.certificate
    if isinstance(shown, Refused):
        yield refused(about, facts.base_url, shown, Level.PROBLEM)
    elif shown is not None:
        yield lifetime(about, shown, now)


def _versions(facts: ClientFacts) -> Iterator[Finding]:
    about, answer = t("Client API"), facts.versions.json
    if answer is None:
        mend = t("Look if the homeserver runs, and if its proxy passes /_matrix on to it.")
        yield not_fetched(about, facts.versions, Level.PROBLEM, mend)
        return
    yield from cors(about, facts.versions)
    versions = answer.get("versions")
    named = [one for one in versions if isinstance(one, str)] if isinstance(versions, list) else []
    if named:
        said = t("The newest version it speaks is {version}.", version=named[-1])
        yield Finding(Level.GOOD, about, said)
    else:
        said = t("It names no version of Matrix that it speaks.")
        yield Finding(Level.PROBLEM, about, said, t("Look if something else is served there."))
    yield _sliding_sync(object_of(answer, "unstable_features"), facts.file.json or {})


def _sliding_sync(features: Mapping[str, Any], file: Mapping[str, Any]) -> Finding:
    about = t("Sliding sync")
    if features.get(SLIDING_SYNC) is True:
        if OLD_SLIDING_SYNC in file:
            return Finding(
                Level.NOTE,
                about,
                t("It works; the client file also names the proxy of former days."),
                t("Remove “{name}” from the client file.", name=OLD_SLIDING_SYNC),
            )
        return Finding(Level.GOOD, about, t("It works, as Element X needs it."))
    return Finding(
        Level.WARNING,
        about,
        t("The homeserver does not offer it, so Element X cannot be used."),
        t("Update the homeserver: Synapse has it since 1.114."),
    )


def _authentication(facts: ClientFacts) -> Iterator[Finding]:
    about, metadata = t("Signing in"), facts.auth_metadata.json
    issuer = text_of(metadata, "issuer", longest=2000) if metadata is not None else None
    if issuer is not None:
        yield from cors(about, facts.auth_metadata)
        yield Finding(Level.GOOD, about, t("People sign in at {issuer}.", issuer=issuer))
        return
    if OLD_AUTHENTICATION in (facts.file.json or {}):
        yield Finding(
            Level.WARNING,
            about,
            t("The client file speaks of an authentication service, the homeserver does not."),
            t("Switch it on in the homeserver, or remove “{name}”.", name=OLD_AUTHENTICATION),
        )
    login = facts.login.json
    if login is None:
        yield not_fetched(about, facts.login, Level.WARNING)
        return
    flows = login.get("flows")
    listed = flows if isinstance(flows, list) else []
    kinds = [text_of(one, "type") for one in listed if isinstance(one, dict)]
    named = ", ".join(dict.fromkeys(one for one in kinds if one is not None))
    yield Finding(
        Level.GOOD,
        about,
        t("The homeserver signs people in by itself: {ways}.", ways=named or "-"),
    )


def _calls(facts: ClientFacts) -> Iterator[Finding]:
    file = facts.file.json
    if file is None:
        return
    about, foci = t("Calls"), file.get(CALLS)
    usable = [
        url
        for one in (foci if isinstance(foci, list) else [])
        if isinstance(one, dict) and one.get("type") == "livekit"
        for url in [text_of(one, "livekit_service_url", longest=2000)]
        if url is not None and url.startswith("https://")
    ]
    if usable:
        yield Finding(Level.GOOD, about, t("Element Call meets at {url}.", url=usable[0]))
    else:
        yield Finding(
            Level.NOTE,
            about,
            t("The client file names no place for calls, so Element Call cannot be used."),
            t("Add “{name}” with your LiveKit service to the client file.", name=CALLS),
        )
