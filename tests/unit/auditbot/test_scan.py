"""What clamd answers is understood, whoever chose the words in it."""

import pytest

from auditbot.pipeline.scan import (
    Scan,
    ScannerAwayError,
    ScannerFailedError,
    ScannerLimitError,
    answer_of,
    version_of,
)

BY = "ClamAV 1.4.6/27800/Wed Nov 25 08:00:00 2026"


@pytest.mark.parametrize(
    ("reply", "scan"),
    [
        (b"stream: OK\0", Scan("clean", BY)),
        (b"stream: Win.Test-1 FOUND\0", Scan("infected", BY, "Win.Test-1")),
        # With ExtendedDetectionInfo.
        (b"stream: Win.Test-1(" + b"0" * 32 + b":68) FOUND\0", Scan("infected", BY, "Win.Test-1")),
        # Whoever makes a signature chooses its name.
        (b"stream: OK FOUND\0", Scan("infected", BY, "OK")),
        (b"stream: a\nb\xff\xe2\x80\xae FOUND\0", Scan("infected", BY, "a�b��")),
        (b"stream: " + b"x" * 5000 + b" FOUND\0", Scan("infected", BY, "x" * 200)),
        # What stands for a limit must not hide what was found beside it, in any order.
        (
            b"stream: Heuristics.Limits.Exceeded.MaxFiles FOUND\0stream: Bad FOUND\0",
            Scan("infected", BY, "Bad"),
        ),
        (
            b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0",
            Scan(
                "not_scanned",
                BY,
                reason="it could not be looked into: Heuristics.Limits.Exceeded.MaxFileSize",
            ),
        ),
        (
            b"stream: Heuristics.Encrypted.Zip FOUND\0",
            Scan(
                "not_scanned", BY, reason="it could not be looked into: Heuristics.Encrypted.Zip"
            ),
        ),
    ],
)
def test_what_clamd_says_of_a_file(reply: bytes, scan: Scan) -> None:
    assert answer_of(reply, BY) == scan
    assert Scan.of(scan.entry()) == scan


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"INSTREAM size limit exceeded. ERROR\0", ScannerLimitError),
        (b"stream: Can't allocate memory ERROR\0", ScannerFailedError),
        (b"Error writing to temporary file. ERROR\0", ScannerAwayError),
        (b"UNKNOWN COMMAND\0", ScannerAwayError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ScannerAwayError),
        (b"", ScannerAwayError),
        # Only this very answer means that nothing was found.
        (b"stream: OK\0stream: x ERROR\0", ScannerAwayError),
        (b"stream: OKAY\0", ScannerAwayError),
    ],
)
def test_only_ok_means_that_nothing_was_found(reply: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        answer_of(reply, BY)


def test_what_is_not_clamd_is_said_to_be_something_else() -> None:
    assert version_of(BY.encode() + b"\0") == BY
    with pytest.raises(ScannerAwayError, match="not clamd"):
        version_of(b"SSH-2.0-OpenSSH\r\n")
