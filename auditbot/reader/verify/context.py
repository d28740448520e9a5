"""What the steps of one verification share."""

from dataclasses import dataclass, field

from auditbot.reader.documents import ListedFile, ListedSegment, Manifest
from auditbot.reader.memory import Remembered
from auditbot.reader.verify.chain import Chain
from auditbot.reader.verify.findings import Findings
from auditbot.reader.verify.graph import GraphCheck
from auditbot.reader.verify.inventory import Inventory
from auditbot.reader.verify.keyring import Keyring
from auditbot.reader.verify.options import Options, Verified
from auditbot.reader.verify.statements import Statements
from auditbot.storage.reading import Place


@dataclass(frozen=True, slots=True)
class CitedFile:
    """An attachment as the record that cites it says."""

    segment: str
    line: int
    sha256: str | None


@dataclass
class Context:
    """One verification under way.

    Args:
        expected: the keys that something signed names
        media: the attachments that manifests list
        cited: the attachments that records say are stored
        roots: what the manifests sign, by stream and size
        trees: the roots that the listed objects give, by stream and size
        manifest_digests: the hashes of the manifests, by key
    """

    place: Place
    inventory: Inventory
    options: Options
    remembered: Remembered
    result: Verified
    keyring: Keyring
    statements: Statements
    graph: GraphCheck
    chains: dict[str, Chain] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)
    media: dict[str, ListedFile] = field(default_factory=dict)
    cited: dict[str, CitedFile] = field(default_factory=dict)
    listed_statements: dict[str, ListedFile] = field(default_factory=dict)
    roots: dict[tuple[str, int], str] = field(default_factory=dict)
    trees: dict[tuple[str, int], bytes] = field(default_factory=dict)
    checkpoint_ms: dict[str, int] = field(default_factory=dict)
    """When the first manifest was made that names a checkpoint, by key."""
    manifest_digests: dict[str, str] = field(default_factory=dict)
    newest: Manifest | None = None
    first: Manifest | None = None
    """The manifest with which the archive begins here."""
    lost: list[ListedSegment | ListedFile] = field(default_factory=list)
    """What is missing though a manifest lists it; attachments and segments."""
    lost_keys: list[ListedFile] = field(default_factory=list)
    """The same, keys of days and of content."""
    sealed_to: dict[str, str] = field(default_factory=dict)
    """The keys that records' content is sealed to, each with a segment that says so."""
    recipients: set[str] = field(default_factory=set)
    """The lists of recipients that manifests name."""

    @property
    def findings(self) -> Findings:
        """Return where to tell what is found."""
        return self.result.findings
