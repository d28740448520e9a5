"""What is to be verified, and what came of it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from auditbot.reader.cosigning.notes import Cosignature, Cosigned
from auditbot.reader.documents import Completeness, Manifest
from auditbot.reader.layout import is_day_key
from auditbot.reader.memory import Seen
from auditbot.reader.read import ALWAYS, Period
from auditbot.reader.signatures import Note
from auditbot.reader.verify.approvals import NOBODY, Approvals, Wanted
from auditbot.reader.verify.findings import Findings
from common.officers import OfficerKey

Progress = Callable[[int, int], None]
"""Is told how many objects and records were checked."""


Observe = Callable[[Manifest], None]
"""Is shown every manifest, in order, that a trusted key signed."""


def no_progress(objects: int, records: int) -> None:
    """Do nothing."""
    del objects, records


def _no_observer(manifest: Manifest) -> None:
    del manifest


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be verified.

    Args:
        now_ms: the present moment
        destination: the archive's own address, as the person gave it
        period: whose segments' contents are checked; all manifests are checked anyway
        sample: how many segments to take by chance; ``None`` for all
        since_last: only the contents of what came since the last verification
        fingerprints: the keys that somebody trusts
        notes: checkpoints that somebody kept
        identities: age identities, to look into encrypted segments
        progress: is told how far it is
        tsa_roots: the certificates (DER) of the authorities whose time stamps are trusted
        observe: is shown every manifest that a trusted key signed
        cosigned: what others cosigned, each of whom must have cosigned this archive
        approvals: whose approvals deletions have to have
    """

    now_ms: int
    destination: str = ""
    period: Period = ALWAYS
    sample: int | None = None
    since_last: bool = False
    fingerprints: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    identities: tuple[str, ...] = ()
    progress: Progress = no_progress
    tsa_roots: tuple[bytes, ...] = ()
    observe: Observe = _no_observer
    cosigned: tuple[Cosigned, ...] = ()
    approvals: Wanted = NOBODY


@dataclass(frozen=True, slots=True)
class Extended:
    """That an archive extends all that a party cosigned of it, if ``last`` says of what."""

    party: OfficerKey
    number: int
    last: Cosignature | None
    is_right: bool


@dataclass
class Verified:
    """What a verification of one server's archive found."""

    server: str
    findings: Findings = field(default_factory=Findings)
    server_name: str = ""
    fingerprints: tuple[str, ...] = ()
    first_use: bool = False
    manifests: int = 0
    objects: int = 0
    """Segments whose contents were checked."""
    outside_only: int = 0
    """Of these, encrypted ones of which only the stored bytes could be checked."""
    has_strange_key: bool = False
    """Whether none of the keys that a person named is in the archive."""
    opened: int = 0
    """Encrypted segments that an identity opened."""
    unfit: set[str] = field(default_factory=set)
    """The keys, or what has none of its own, that no identity opened which somebody named."""
    listed: int = 0
    records: int = 0
    listed_records: int = 0
    bytes: int = 0
    media: int = 0
    tombstones: int = 0
    stamps: int = 0
    """Valid time stamps of checkpoints."""
    stamps_known: bool = False
    """Whether it was checked that a trusted authority made them."""
    stamped_ms: int | None = None
    """When the newest of them was made."""
    erased: frozenset[str] = frozenset()
    """The keys of days and of content that were destroyed on purpose."""
    erased_segments: int = 0
    """Of the segments, those that nobody can read any more for that reason."""
    sealed_records: int = 0
    """Records of which the content is sealed, of those that were looked into."""
    opened_records: int = 0
    """Of these, those whose content was opened and found to be what the line says."""
    sealed_counts: Counter[str] = field(default_factory=Counter)
    """How many are sealed to each key."""
    encrypted: bool = False
    from_ms: int | None = None
    until_ms: int | None = None
    streams: dict[str, Seen] = field(default_factory=dict)
    undecryptable: Counter[str] = field(default_factory=Counter)
    undecryptable_open: int = 0
    gaps_open: int = 0
    media_open: int = 0
    not_covered: int = 0
    parents: int = 0
    days: tuple[Completeness, ...] = ()
    """What the writer stated of each day, validly signed."""
    whole: bool = True
    """Whether the contents of everything were checked."""
    looked_ms: int | None = None
    """When the older contents, which were not looked into now, were last found right."""
    indexed: bool = False
    """Whether all contents were compared with what is signed when they came into an index."""

    @property
    def erased_days(self) -> frozenset[str]:
        """Return the keys of whole days that were destroyed on purpose."""
        return frozenset(filter(is_day_key, self.erased))

    @property
    def erased_records(self) -> int:
        """Return how many records' content was destroyed on purpose."""
        return sum(self.sealed_counts[key] for key in self.erased)

    approvals: Approvals = field(default_factory=Approvals)
    extended: list[Extended] = field(default_factory=list)
    """What becomes of the cosignatures that were asked for."""
    storage: Mapping[str, object] = field(default_factory=dict)
    unlisted: dict[str, int] = field(default_factory=dict)
    """Objects that no manifest lists yet, with when the newest one was made at first sight."""
