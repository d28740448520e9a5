"""What a verification found, for people and for programs."""

from collections.abc import Collection, Iterator, Mapping

from auditbot.reader.show import visible
from auditbot.reader.times import counted, moment
from auditbot.reader.verify.findings import Finding, Severity
from auditbot.reader.verify.options import Verified
from auditbot.reader.verify.servers import KEY_IS_ANOTHERS

_SHOWN = 50
_GROUP = 4


def grouped(fingerprint: str) -> str:
    """Return a fingerprint in groups, as people read it out."""
    return " ".join(
        fingerprint[start : start + _GROUP] for start in range(0, len(fingerprint), _GROUP)
    )


def as_text(result: Verified, destination: str) -> str:
    """Return one page: what was checked, what is wrong, what a person should know."""
    lead = f"{KEY_IS_ANOTHERS}\n\n" if result.has_strange_key else ""
    return lead + "".join(f"{line}\n" for line in _lines(result, destination))


def standing(result: Verified) -> str:
    """Return the outcome in a word: ``wrong``, ``partly`` looked into and right, or ``right``."""
    if result.findings.counted[Severity.WRONG]:
        return "wrong"
    return "partly" if _is_part(result) else "right"


def _is_part(result: Verified) -> bool:
    return bool(not result.whole or result.outside_only or result.unfit or _unopened(result) > 0)


def _unopened(result: Verified) -> int:
    """Return of how many records the content is sealed, and could still be opened."""
    return max(result.sealed_records - result.opened_records - result.erased_records, 0)


def overall(results: Collection[Verified]) -> str:
    """Return the outcome for several servers in a word: that of the worst, ``unknown`` for none."""
    found = {standing(result) for result in results}
    return next((one for one in ("wrong", "partly", "right") if one in found), "unknown")


def verdicts(results: Collection[Verified]) -> str:
    """Return the outcome for several servers in sentences; empty for none."""
    if len({verdict(result) for result in results}) <= 1:
        return "".join(verdict(result) for result in list(results)[:1])
    return " ".join(
        f"{visible(result.server_name or result.server)}: {verdict(result)}" for result in results
    )


def verdict(result: Verified) -> str:
    """Return the outcome in a sentence."""
    wrong = result.findings.counted[Severity.WRONG]
    if wrong:
        return f"WRONG: this is not the archive that was written ({counted(wrong, 'fault')})."
    if result.unfit:
        return _verdict_of_unfit(result)
    if not result.whole:
        return f"RIGHT, as far as it was looked into: {_looked_into(result)}"
    if result.outside_only:
        return "RIGHT from outside: nothing was changed; contents are encrypted (--identity)."
    if _unopened(result):
        return "RIGHT from outside: nothing was changed; content sealed, not opened (--identity)."
    return "RIGHT: nothing was changed, added or removed."


def _verdict_of_unfit(result: Verified) -> str:
    who = (
        "the identities you named open only a part of it"
        if result.opened or result.opened_records
        else "none of the identities you named opens it"
    )
    part = "" if result.whole else " Not all contents were to be looked into."
    return f"RIGHT from outside: nothing was changed; {who} (is it the right file?).{part}"


def _looked_into(result: Verified) -> str:
    if result.looked_ms is not None:
        return (
            "all signatures and sizes, new contents; older contents were right on "
            f"{moment(result.looked_ms)} UTC, and were not looked into now."
        )
    if result.indexed:
        return (
            "all signatures and sizes now; the contents were compared with them when this machine's "
            "index was made."
        )
    if not result.objects:
        return "all signatures and sizes; no content was looked into."
    return "all signatures, not all contents."


def _lines(result: Verified, destination: str) -> Iterator[str]:
    name = visible(result.server_name or result.server)
    yield f"Archive of {name} at {visible(destination)}"
    for fingerprint in result.fingerprints:
        yield f"    signing key   {grouped(fingerprint)}"
    if result.first_use:
        yield "                  Trusted because it was found here first: compare it with the"
        yield "                  fingerprint that auditbot told, then give it with --key."
    yield f"    covers        {moment(result.from_ms)} to {moment(result.until_ms)} UTC"
    yield f"    manifests     {result.manifests:,}"
    yield (
        f"    segments      {result.objects:,} of {result.listed:,} looked into; "
        f"{result.records:,} of {result.listed_records:,} records"
    )
    yield f"    attachments   {result.media:,}"
    if result.stamps:
        by = (
            "a trusted authority"
            if result.stamps_known
            else "an authority NOT CHECKED (--tsa-roots)"
        )
        yield (
            f"    time stamps   {result.stamps:,}, the last of {moment(result.stamped_ms)} UTC, by {by}"
        )
    yield from _extended(result)
    if result.tombstones:
        yield f"    removed       {result.tombstones:,} on purpose, as signed removals say"
    yield from _approved(result)
    yield from _shut(result)
    if result.parents:
        yield f"    room graph    {counted(result.parents, 'link')} between events followed"
    words = storage_words(result.storage)
    seen_ms = result.storage.get("probed_ms")
    if words:
        when = f"; as seen {moment(seen_ms)} UTC" if seen_ms is not None else ""
        yield f"    storage       {visible(words)}{when}"
    yield from _open(result)
    yield ""
    yield verdict(result)
    yield from _findings(result, Severity.WRONG, "The first of them:")
    yield from _findings(result, Severity.NOTICE, "To know:")


def _extended(result: Verified) -> Iterator[str]:
    """Yield who cosigned the archive, and whether it goes on from there."""
    for one in result.extended:
        name = visible(one.party.name)
        if one.last is None:
            yield f"    cosigned      NEVER by {name}, as far as can be seen"
            continue
        when = moment(one.last.time_s * 1000)
        yield (
            f"    cosigned      {counted(one.number, 'time')} by {name}, the last on {when} UTC: "
            f"{one.last.size:,} records of stream {one.last.stream}; "
            + ("the archive extends them all" if one.is_right else "THIS IS NOT THAT ARCHIVE")
        )


def _approved(result: Verified) -> Iterator[str]:
    """Yield who approved what was deleted on purpose."""
    approvals = result.approvals
    if approvals.documents:
        by = ", ".join(
            f"{visible(key.name)} ({number:,})"
            for key, number in sorted(approvals.by.items(), key=lambda item: item[0].name)
        )
        more = f"; {approvals.without:,} without approval" if approvals.without else ""
        what = counted(approvals.documents, "removal or erasure", "removals and erasures")
        yield f"    approved      {what} by {by}{more}"


def _shut(result: Verified) -> Iterator[str]:
    """Yield what of the archive nobody can read, or was not read now."""
    if result.sealed_records:
        left = _unopened(result)
        opened = f"{result.opened_records:,} opened and right"
        shut = f"; content sealed of {left:,} (--identity)" if left > 0 else ""
        yield f"    sealed        {result.sealed_records:,} records' content: {opened}{shut}"
    if result.erased_days:
        yield (
            f"    erased        {len(result.erased_days):,} days on purpose: what they hold is "
            "proved, and nobody can read it"
        )
    keys = len(result.erased - result.erased_days)
    if keys:
        yield (
            f"    erased        {keys:,} keys of content on purpose: that of "
            f"{result.erased_records:,} records, which are proved, nobody can read"
        )


def storage_words(storage: Mapping[str, object]) -> str:
    """Return what the writer, signed, said of the store that it writes to; empty for nothing."""
    kind = storage.get("kind")
    if kind is None:
        return ""
    days = storage.get("retention_days")
    lock = storage.get("object_lock")
    kept = f"lock {lock}" + (f" for {days} days" if days is not None else "")
    if lock is None:
        kept = "NO LOCK: whoever may write there may delete"
    elif storage.get("object_lock_seen") is not True:
        kept += " asked for, not seen to be kept"
    parts = [
        "a directory" if kind == "directory" else f"a bucket ({kind})",
        kept,
        _either(storage.get("versioning"), "older versions kept", "older versions not kept"),
        _either(
            storage.get("conditional_create"),
            "never overwrites what is new",
            "A SECOND WRITER COULD OVERWRITE",
        ),
        "only a lease keeps one out" if storage.get("fencing") == "weak" else "",
        _either(storage.get("checksum"), "checksums checked", "checksums not checked"),
        f"encrypts ({storage['sse']})" if storage.get("sse") else "",
    ]
    return "; ".join(filter(None, parts))


def _either(known: object, yes: str, no: str) -> str:
    return yes if known is True else no if known is False else ""


def _open(result: Verified) -> Iterator[str]:
    waiting = [
        counted(count, what) + more
        for count, what, more in (
            (result.undecryptable_open, "message", " without a key"),
            (result.gaps_open, "known gap", ""),
            (result.media_open, "attachment", ""),
            (result.not_covered, "room", " not covered"),
        )
        if count
    ]
    if waiting:
        yield f"    still open    {', '.join(waiting)}"


def _findings(result: Verified, severity: Severity, title: str) -> Iterator[str]:
    found = result.findings.of(severity)
    if not found:
        return
    yield ""
    yield title
    for finding in found[:_SHOWN]:
        yield f"    {visible(finding.place)}"
        yield f"        {visible(finding.sentence)}"
    more = result.findings.counted[severity] - len(found[:_SHOWN])
    if more:
        yield f"    … and {more:,} more."


def as_json(result: Verified) -> dict[str, object]:
    """Return everything for programs."""
    findings: list[Finding] = result.findings.found
    return {
        "server_name": result.server_name or result.server,
        "right": not result.findings.counted[Severity.WRONG],
        "standing": standing(result),
        "older_contents_right_ms": result.looked_ms,
        "whole": result.whole,
        "fingerprints": list(result.fingerprints),
        "trusted_on_first_use": result.first_use,
        "from_ms": result.from_ms,
        "until_ms": result.until_ms,
        "manifests": result.manifests,
        "segments": result.objects,
        "segments_listed": result.listed,
        "segments_from_outside_only": result.outside_only,
        "records": result.records,
        "records_listed": result.listed_records,
        "attachments": result.media,
        "removed": result.tombstones,
        "time_stamps": result.stamps,
        "time_stamps_checked": result.stamps_known,
        "stamped_ms": result.stamped_ms,
        "approvals": {
            "documents": result.approvals.documents,
            "without": result.approvals.without,
            "by": {key.text: number for key, number in result.approvals.by.items()},
        },
        "cosigned": [
            {
                "by": one.party.text,
                "cosignatures": one.number,
                "right": one.is_right,
                "last": None
                if one.last is None
                else {
                    "time_s": one.last.time_s,
                    "stream": one.last.stream,
                    "records": one.last.size,
                    "root": one.last.root.hex(),
                },
            }
            for one in result.extended
        ],
        "erased": sorted(result.erased),
        "records_sealed": result.sealed_records,
        "records_opened": result.opened_records,
        "records_erased": result.erased_records,
        "keys_not_opened": sorted(result.unfit),
        "graph_links": result.parents,
        "storage": dict(result.storage),
        "open": {
            "undecryptable": result.undecryptable_open,
            "gaps": result.gaps_open,
            "attachments": result.media_open,
            "rooms_not_covered": result.not_covered,
        },
        "streams": {
            stream: {"manifests": seen.number + 1, "records": seen.size, "root": seen.root}
            for stream, seen in result.streams.items()
        },
        "wrong": result.findings.counted[Severity.WRONG],
        "notices": result.findings.counted[Severity.NOTICE],
        "findings": [finding.as_json() for finding in findings],
    }
