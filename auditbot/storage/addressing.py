"""Where an archive is: one name for each place, and where a bucket's name goes."""

import os
from pathlib import Path
from typing import Literal

from common.config.schema import S3


def place_name(destination: str, endpoint_url: str | None = None) -> str:
    """Return the one name of a place that may be spelled in several ways."""
    scheme, _, rest = destination.partition(":")
    if scheme == "file":
        return f"file:{os.path.normpath(Path(rest.removeprefix('//')).absolute())}"
    name = destination.rstrip("/")
    return f"{name} at {endpoint_url.rstrip('/')}" if endpoint_url else name


def addressing_style(settings: S3) -> Literal["auto", "path", "virtual"]:
    """Return what the S3 library is told.

    Left to itself it takes the path for every store with an address of its own, and the host name
    for Amazon's.
    """
    if settings.path_style is None:
        return "auto"
    return "path" if settings.path_style else "virtual"
