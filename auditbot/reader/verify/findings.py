"""What a verification found: each thing with its place and a sentence."""

from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    WRONG = "wrong"
    """The archive is not what was written."""
    NOTICE = "notice"
    """Nothing is wrong with the archive, but a person should know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Args:
        code: for programs; the table is in the compliance guide
        key: the object
        sentence: what is wrong, for people
        line: the line in it, from 1
        severity: how bad it is
    """

    code: str
    key: str
    sentence: str
    line: int | None = None
    severity: Severity = Severity.WRONG

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "severity": self.severity.value,
            "code": self.code,
            "object": self.key,
            "line": self.line,
            "sentence": self.sentence,
        }

    @property
    def place(self) -> str:
        """Return where it is."""
        return self.key if self.line is None else f"{self.key}, line {self.line}"


MOST_KEPT = 1000


@dataclass
class Findings:
    """All that was found; beyond a number of each severity they are only counted."""

    found: list[Finding] = field(default_factory=list)
    counted: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))

    def add(self, *findings: Finding) -> None:
        """Add what was found."""
        for finding in findings:
            self.counted[finding.severity] += 1
            if self.counted[finding.severity] <= MOST_KEPT:
                self.found.append(finding)

    def wrong(self, code: str, key: str, sentence: str, line: int | None = None) -> None:
        """Add that something is wrong."""
        self.add(Finding(code, key, sentence, line))

    def notice(self, code: str, key: str, sentence: str, line: int | None = None) -> None:
        """Add what a person should know."""
        self.add(Finding(code, key, sentence, line, Severity.NOTICE))

    def of(self, severity: Severity) -> list[Finding]:
        """Return what was kept of a severity."""
        return [finding for finding in self.found if finding.severity is severity]
