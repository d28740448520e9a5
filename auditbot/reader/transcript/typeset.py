"""A process of its own that sets a transcript: what is hostile in it can exhaust only this one.

Run as a module: folder with ``data.json`` and the pictures, and the file to write.
"""

import json
import resource
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import typst

MEMORY_BYTES = 4 * 2**30
SECONDS = 600
ARCHIVAL, PLAIN, FAILED = 0, 3, 4
_ONE = b"#image(sys.inputs.name, height: 45mm)"
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
    _drop_pictures(folder, lambda name: not _is_sound(folder, name))
    for is_archival, with_pictures in _ATTEMPTS:
        if not with_pictures:
            _drop_pictures(folder, lambda _: True)
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


def _drop_pictures(folder: Path, is_bad: Callable[[str], bool]) -> None:
    """Take pictures out of the data: those that are damaged, perhaps on purpose."""
    path = folder / "data.json"
    data = json.loads(path.read_bytes())
    kept = {key: name for key, name in data["pictures"].items() if not is_bad(name)}
    path.write_text(json.dumps({**data, "pictures": kept}), encoding="ascii")


def _is_sound(folder: Path, name: str) -> bool:
    """Return whether a picture can be set, by itself: a damaged one must not take the others along."""
    one = folder / "one.typ"
    one.write_bytes(_ONE)
    try:
        typst.compile(one, root=folder, format="pdf", sys_inputs={"name": name})
    except typst.TypstError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
