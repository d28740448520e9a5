"""Which keys count for each of the servers at one place.

A key that was named for one server says nothing of another. So once anything is trusted at a
place, no further server's archive there is believed at first sight: whoever can write there can
add one, in the place of the one that was known or beside it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from auditbot.reader.memory import Remembered
from auditbot.reader.times import moment

KEY_IS_ANOTHERS = (
    "The key that you named is not this archive's: compare it, digit by digit, with what was written "
    "down, and give the right one with --key. If it is typed as it was written down, this is "
    "another archive."
)

_NOTHING, _FOUND, _NAMED = range(3)
"""How well a server's keys are known: not at all, since they were found first, by a person."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is trusted in one server's archive."""

    fingerprints: tuple[str, ...] = ()
    """Where trust begins; if there are none, the key of the first manifest is taken."""
    named: tuple[str, ...] = ()
    """Those of the keys that a person names now which may be meant for this server."""
    is_strange: bool = False
    """Whether nothing of it is to be believed."""


def choose_keys(
    given: Collection[str],
    lying: Mapping[str, Collection[str]],
    remembered: Mapping[str, Remembered],
) -> dict[str, Chosen]:
    """Return which keys count for each server.

    Args:
        given: the fingerprints that a person names now; they do not say of which server they are
        lying: the fingerprints that lie in each server's archive, whoever put them there
        remembered: what is known of servers at this place, of those that are gone too
    """
    return {server: _chosen(server, tuple(given), lying, remembered) for server in lying}


def _chosen(
    server: str,
    given: tuple[str, ...],
    lying: Mapping[str, Collection[str]],
    remembered: Mapping[str, Remembered],
) -> Chosen:
    if not set(lying[server]).isdisjoint(given):
        return Chosen(given, given)
    elsewhere = {key for name, keys in lying.items() if name != server for key in keys}
    own = remembered.get(server, Remembered())
    known = [_how_known(one) for name, one in remembered.items() if name != server]
    if not elsewhere.isdisjoint(given):
        known.append(_NAMED)
    if max(known, default=_NOTHING) > _how_known(own):
        return Chosen(is_strange=True)
    if not given or (own.named and elsewhere.issuperset(given)):
        return Chosen(own.fingerprints)
    return Chosen(given, given)


def _how_known(known: Remembered) -> int:
    if not known.fingerprints:
        return _NOTHING
    return _NAMED if known.named else _FOUND


def strange_server(server: str) -> str:
    """Return what is to be said of a server that nobody vouches for."""
    return (
        f"Nothing vouches for the archive of {server}, though keys of another server are trusted "
        "at this place: somebody put it here, perhaps instead of the other one, or it is new. Do "
        "not believe it. If you were told the fingerprint of its key, by another way than this "
        "archive, give it with --key."
    )


def server_gone(server: str, known: Remembered) -> str:
    """Return what is to be said of a server that is not here any more."""
    return (
        f"The archive of {server} was here on {moment(known.last_seen_ms)} UTC, and is gone: it "
        "was deleted, or moved to another place. Get it from a backup or from older versions, and "
        "ask who can write here."
    )


def gone_servers(
    here: Collection[str], remembered: Mapping[str, Remembered]
) -> dict[str, Remembered]:
    """Return the servers whose archives were seen at this place, and are not there now."""
    return {
        server: known
        for server, known in sorted(remembered.items())
        if server not in here and known.fingerprints and known.last_seen_ms is not None
    }
