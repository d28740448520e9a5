"""Can other servers find, trust and talk to the homeserver?

Source: Matrix specification v1.18, server-server API, "Server discovery" and "Retrieving server
keys".
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from common.crypto.canonical import is_signed, object_of, text_of
from common.i18n import t
from common.servercheck.facts import By, Facts, ServerFacts
from common.servercheck.findings import Finding, Level
from common.servercheck.judge_client import content_type, cors
from common.servercheck.names import server_name_of
from common.servercheck.port import Fetched, Refused
from common.servercheck.support import support_of
from common.servercheck.wording import NOT_FOUND, lifetime, not_fetched, refused

_MOST_KEYS = 20


def judge_server(facts: Facts, now: datetime) -> Iterator[Finding]:
    """Yield what there is to say of the way that other servers go."""
    server = facts.server
    yield from _file(server)
    yield _delegation(server)
    yield from _certificate(server, now)
    yield from _version(server)
    yield from _keys(server.keys, str(facts.name), now)


def judge_support(file: Fetched) -> Iterator[Finding]:
    """Yield what there is to say of the support file."""
    about = t("Support file")
    mend = t("Serve {url} with whom to write to.", url=file.url)
    if support_of(file) is not None:
        yield from cors(about, file, Level.NOTE)
        yield Finding(Level.GOOD, about, t("It says whom to write to."))
    elif file.good:
        yield Finding(Level.WARNING, about, t("It does not say whom to write to."), mend)
    else:
        yield not_fetched(about, file, Level.NOTE, mend)


def _file(facts: ServerFacts) -> Iterator[Finding]:
    file = facts.file
    if file is None:
        return
    about = t("Server file")
    mend = t("Serve {url} with {content}.", url=file.url, content='{"m.server": "…:443"}')
    if file.trouble is None and file.status == NOT_FOUND:
        # By SRV records or at port 8448 it can do without.
        level = Level.GOOD if facts.version.good else Level.PROBLEM
        said = t("There is none; others go by DNS or to port 8448.")
        yield Finding(level, about, said, None if facts.version.good else mend)
        return
    answer = file.json
    if answer is None:
        level = Level.WARNING if facts.version.good else Level.PROBLEM
        yield not_fetched(about, file, level, mend)
        return
    if server_name_of(answer.get("m.server")) is None:
        said = t("It has no “m.server” that is the name of a server.")
        yield Finding(Level.PROBLEM, about, said, mend)
        return
    yield from content_type(about, file)
    said = t("It leads to {server}.", server=text_of(answer, "m.server") or "")
    yield Finding(Level.GOOD, about, said)


def _delegation(facts: ServerFacts) -> Finding:
    about, target = t("Delegation"), facts.delegation.target
    said = {
        By.NAME: t("Others connect to {target}, as the name itself says.", target=target),
        By.FILE: t("Others connect to {target}, as the server file says.", target=target),
        By.SRV: t("Others connect to {target}, by an SRV record.", target=target),
        By.OLD_SRV: t("Others connect to {target}, by an old SRV record.", target=target),
        By.DEFAULT: t("Others connect to {target}, as nothing says otherwise.", target=target),
    }[facts.delegation.by]
    if facts.delegation.by is By.OLD_SRV:
        mend = t("Name the record _matrix-fed._tcp; _matrix._tcp is deprecated.")
        return Finding(Level.WARNING, about, said, mend)
    return Finding(Level.GOOD, about, said)


def _certificate(facts: ServerFacts, now: datetime) -> Iterator[Finding]:
    about, shown = t("Certificate for federation"), facts.certificate
    if isinstance(shown, Refused):
        yield refused(about, facts.delegation.target, shown, Level.PROBLEM)
    else:
        yield lifetime(about, shown, now)


def _version(facts: ServerFacts) -> Iterator[Finding]:
    about, answer = t("Federation"), facts.version.json
    if answer is None:
        mend = t("Look if the proxy passes /_matrix/federation and /_matrix/key on.")
        yield not_fetched(about, facts.version, Level.PROBLEM, mend)
        return
    server = object_of(answer, "server")
    name, version = text_of(server, "name") or "?", text_of(server, "version") or "?"
    said = t("It answers: {name} {version}.", name=name, version=version)
    yield Finding(Level.GOOD, about, said)


def _keys(fetched: Fetched, name: str, now: datetime) -> Iterator[Finding]:
    about, answer = t("Keys"), fetched.json
    mend = t("Look if the proxy passes /_matrix/key on to the homeserver of this name.")
    if answer is None:
        yield not_fetched(about, fetched, Level.PROBLEM, mend)
        return
    if answer.get("server_name") != name:
        other = text_of(answer, "server_name") or "?"
        said = t("They are of another server: {name}.", name=other)
        yield Finding(Level.PROBLEM, about, said, mend)
        return
    until = answer.get("valid_until_ts")
    if not isinstance(until, int) or until <= now.timestamp() * 1000:
        said = t("They are no longer valid.")
        yield Finding(Level.PROBLEM, about, said, t("Set the server's clock, and restart it."))
        return
    if not _signed_by_all(answer, name):
        said = t("They are not signed as they should be.")
        yield Finding(Level.PROBLEM, about, said, t("Look if something changes them on the way."))
        return
    yield Finding(Level.GOOD, about, t("They are valid and signed."))


def _signed_by_all(answer: Mapping[str, Any], name: str) -> bool:
    keys = object_of(answer, "verify_keys")
    ours = [key_id for key_id in keys if key_id.startswith("ed25519:")][:_MOST_KEYS]
    return bool(ours) and all(
        is_signed(
            answer,
            user_id=name,
            key_id=key_id,
            public_key=text_of(object_of(keys, key_id), "key") or "",
        )
        for key_id in ours
    )
