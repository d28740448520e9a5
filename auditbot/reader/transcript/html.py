"""A transcript as one page of HTML: no scripts, nothing loaded from anywhere, ready to print."""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from auditbot.reader.memory import copy_private, private_directory, write_private
from auditbot.reader.render.templates import templates
from auditbot.reader.transcript.build import Attachment, Transcript

INLINE_BYTES = 2 * 2**20
"""Pictures up to this size are in the page itself."""
INLINE_TOTAL_BYTES = 64 * 2**20


def write_html(transcript: Transcript, path: Path) -> None:
    """Write the page, and a folder beside it with the attachments that are not in it.

    Raises:
        PermanentError: it cannot be written.
    """
    folder = path.with_name(f"{path.stem}-files")
    shown: dict[str, dict[str, Any]] = {}
    total = 0
    for key, attachment in transcript.attachments.items():
        is_inline = (
            attachment.picture is not None
            and attachment.size <= INLINE_BYTES
            and total + attachment.size <= INLINE_TOTAL_BYTES
        )
        if is_inline:
            total += attachment.size
            shown[key] = {"inline": _data_url(attachment), "link": None}
        else:
            private_directory(folder)
            copy_private(attachment.path, folder / attachment.safe_name)
            shown[key] = {"inline": None, "link": f"{folder.name}/{attachment.safe_name}"}
    write_private(path, render(transcript, shown).encode("utf-8", "replace"))


def render(transcript: Transcript, shown: dict[str, dict[str, Any]]) -> str:
    """Return the page; ``shown`` says how each attachment is reached."""
    style = stylesheet("look.css", "transcript.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        templates()
        .get_template("transcript.html")
        .render(
            facts=transcript.facts,
            days=list(transcript.days),
            audiences=transcript.audiences,
            attachments=shown,
            # Ours, and it holds no character that ends the element.
            style=Markup(style),  # noqa: S704  # our own style sheet
            style_hash=f"sha256-{digest}",
        )
    )


def stylesheet(*names: str) -> str:
    """Return our style sheets as one."""
    folder = files("auditbot.reader").joinpath("templates")
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)


def _data_url(attachment: Attachment) -> str:
    body = base64.b64encode(attachment.path.read_bytes()).decode()
    return f"data:{attachment.picture};base64,{body}"
