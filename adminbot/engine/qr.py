"""A text as a picture that telephones read (ISO/IEC 18004); the only user of segno."""

import io

import segno

from adminbot.engine.answer import File

_SCALE, _BORDER = 8, 4


def qr_code(name: str, text: str) -> File:
    """Return a PNG picture of a text, with the quiet zone that readers need."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="png", scale=_SCALE, border=_BORDER)
    return File(name, "image/png", out.getvalue())
