"""Where a bucket's name goes: into the path, or into the host name."""

from typing import Literal

from common.config.schema import S3


def addressing_style(settings: S3) -> Literal["auto", "path", "virtual"]:
    """Return what the S3 library is told.

    Left to itself it takes the path for every store with an address of its own, and the host name
    for Amazon's.
    """
    if settings.path_style is None:
        return "auto"
    return "path" if settings.path_style else "virtual"
