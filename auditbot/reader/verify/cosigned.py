"""Whether the archive of today extends every checkpoint that somebody else cosigned.

Both trees are made of the hashes that the manifests list, one of which begins with all of the other:
that is what a consistency proof shows (RFC 9162, section 2.1.4). Whose key signs the archive does not
matter here: who has that key can write any archive, but none that was cosigned before.
"""

from auditbot.reader.cosigning.notes import FOLDER, Cosignature, Cosigned
from auditbot.reader.layout import server_folder
from auditbot.reader.times import moment
from auditbot.reader.verify.context import Context
from auditbot.reader.verify.options import Extended

_CLOCKS_MS = 3_600_000
"""By how much the clocks of two machines may differ before that is told."""


def check_cosigned(context: Context) -> None:
    """Compare with what was cosigned by all parties that were named."""
    for cosigned in context.options.cosigned:
        is_right = _check_party(context, cosigned)
        if cosigned.is_own:
            continue
        own = _own(context, cosigned)
        last = max(own, key=lambda one: (one.time_s, one.size), default=None)
        context.result.extended.append(Extended(cosigned.party, len(own), last, is_right))


def _own(context: Context, cosigned: Cosigned) -> list[Cosignature]:
    """Return what a party cosigned of this server's archive."""
    server = context.inventory.server
    return [one for one in cosigned.found if server_folder(one.server_name) == server]


def _check_party(context: Context, cosigned: Cosigned) -> bool:
    """Tell what is wrong; return whether nothing is."""
    findings, own = context.findings, _own(context, cosigned)
    is_right = bool(own)
    for key, sentence in cosigned.faults:
        findings.wrong("cosignature", key, sentence)
        is_right = False
    if not own and not cosigned.is_own:
        others = len(cosigned.found)
        besides = f" The {others:,} that are there are of other archives." if others else ""
        findings.wrong(
            "cosignature_missing",
            f"{FOLDER}{cosigned.party.hint.hex()}/{context.inventory.server}/",
            f"There is no cosignature of this archive by “{cosigned.party.name}”: it never was "
            f"cosigned, this is the wrong place for cosignatures, or they were deleted.{besides}",
        )
    for one in own:
        if one.stream in context.chains or one.stream not in cosigned.elsewhere:
            is_right &= _check(context, cosigned.party.name, one)
    return is_right


def _check(context: Context, name: str, one: Cosignature) -> bool:
    """Tell if the archive does not extend one checkpoint; return whether it does."""
    findings = context.findings
    said = f"“{name}” cosigned {one.size:,} records of stream {one.stream} on {_when(one)} UTC"
    if one.time_s * 1000 > context.options.now_ms + _CLOCKS_MS:
        findings.notice("cosigned_future", one.key, f"{said}, which is yet to come.")
    tree = context.trees.get((one.stream, one.size))
    if tree == one.root:
        return True
    chain = context.chains.get(one.stream)
    last = chain.last if chain is not None else None
    if last is None:
        findings.wrong(
            "cosigned_cut", one.key, f"{said}, and the stream is gone: the archive was cut back."
        )
    elif last.tree.size < one.size:
        findings.wrong(
            "cosigned_cut",
            one.key,
            f"{said}, and only {last.tree.size:,} are here: the archive was cut back.",
        )
    elif tree is not None:
        findings.wrong(
            "cosigned_other",
            one.key,
            f"{said}, and the archive has others under these numbers: it was written anew.",
        )
    else:
        findings.wrong(
            "cosigned_other",
            one.key,
            f"{said}, and the manifests give no tree of these: it was written anew, or its "
            "manifests were changed.",
        )
    return False


def _when(one: Cosignature) -> str:
    return moment(one.time_s * 1000)
