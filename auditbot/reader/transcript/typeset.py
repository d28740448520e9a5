"""A process of its own that sets a transcript: what is hostile in it can exhaust only this one.

Run as a module: folder with ``data.json`` and the pictures, and the file to write.
"""

import json
import resource
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import typst

MEMORY_BYTES = 4 * 2**30
SECONDS = 600
ARCHIVAL, PLAIN, FAILED = 0, 3, 4
_ATTEMPTS = ((True, True), (False, True), (True, False), (False, False))
"""Whether as PDF/A and whether with pictures, the best first."""


def main(argv: Sequence[str]) -> int:
    """Set the transcript; return whether it became PDF/A, plain PDF or nothing."""
    folder, output = Path(argv[0]), Path(argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    source = files("auditbot.reader").joinpath("templates/transcript.typ").read_bytes()
    main_file = folder / "main.typ"
    main_file.write_bytes(source)
    reason = ""
    for is_archival, with_pictures in _ATTEMPTS:
        if not with_pictures:
            _drop_pictures(folder / "data.json")
        try:
            body = typst.compile(
                main_file,
                root=folder,
                format="pdf",
                sys_inputs={"data": (folder / "data.json").read_text(encoding="ascii")},
                pdf_standards=["a-2u"] if is_archival else [],
            )
        except typst.TypstError as error:
            reason = str(error)
            continue
        output.write_bytes(body)
        return ARCHIVAL if is_archival else PLAIN
    sys.stderr.write(reason[:2000])
    return FAILED


def _drop_pictures(path: Path) -> None:
    """Take the pictures out: one of them is damaged, perhaps on purpose."""
    data = json.loads(path.read_bytes())
    path.write_text(json.dumps({**data, "pictures": {}}), encoding="ascii")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
