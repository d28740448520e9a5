"""Where an archive is: one name for each place, where a bucket's name goes, where that is configured."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.config.schema import S3


@dataclass(frozen=True, slots=True)
class Origin:
    """Where what names a bucket and how it is reached stands, for the sentences that say what to mend.

    Args:
        place: what names the bucket
        setting: what a setting is called there, with ``{}`` for its own name
        inherited: settings that stand in Steward's configuration all the same
        credentials: where they come from if no setting holds them, such as “the profile x”
    """

    place: str = "auditbot.destination"
    setting: str = "auditbot.s3.{}"
    inherited: frozenset[str] = frozenset()
    credentials: str | None = None

    def named(self, setting: str) -> str:
        """Return where a setting stands, or would have to."""
        template = "auditbot.s3.{}" if setting in self.inherited else self.setting
        return template.replace("{}", setting, 1)

    def credential(self, setting: str) -> str:
        """Return where ``access_key_id`` or ``secret_access_key`` came from."""
        return f"the {setting} of {self.credentials}" if self.credentials else self.named(setting)


CONFIGURATION = Origin()
"""Steward's own configuration."""


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
