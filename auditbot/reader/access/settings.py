"""Where the access log lies, and with which credentials entries are added to it; cosignatures likewise.

In this order: the option ``--access-log``, the variable ``STEWARD_AUDIT_ACCESS_LOG``, the file
``access-log.yaml`` in the reader's home. Credentials stand in the file, or come from a profile or the
usual chain; those of the archive are never taken, because they may only read.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from auditbot.storage.adding import Adding, DirectoryAdding
from auditbot.storage.addressing import Origin, place_name
from common.config.schema import S3
from common.config.secret import Secret
from common.errors import ConfigError

FILE = "access-log.yaml"
VARIABLE = "STEWARD_AUDIT_ACCESS_LOG"
PROFILE_VARIABLE = "STEWARD_AUDIT_ACCESS_LOG_PROFILE"
_LARGEST = 2**16


@dataclass(frozen=True, slots=True)
class Added:
    """What is added to a place: what it is called, and where the place is configured."""

    what: str
    file: str
    variable: str
    profile_variable: str


ACCESS_LOG = Added("the access log", FILE, VARIABLE, PROFILE_VARIABLE)
COSIGNATURES = Added(
    "cosignatures",
    "cosign.yaml",
    "STEWARD_AUDIT_COSIGNATURES",
    "STEWARD_AUDIT_COSIGNATURES_PROFILE",
)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``access-log.yaml``."""

    place: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    path_style: bool | None = None
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class AccessPlace:
    """A place for entries. ``s3`` holds the credentials that add, if the file has any."""

    url: str
    s3: S3
    profile: str | None
    file: Path
    origin: Origin

    @property
    def name(self) -> str:
        """Return the one name of the place."""
        return place_name(self.url, self.s3.endpoint_url if self.is_bucket else None)

    @property
    def is_bucket(self) -> bool:
        """Return whether it is a bucket."""
        return self.url.startswith("s3://")

    def adding(self) -> Adding:
        """Return what adds to it; nothing is reached yet."""
        if not self.is_bucket:
            return DirectoryAdding(Path(self.url.partition(":")[2].removeprefix("//")).absolute())
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        # The S3 library takes a second to load: not for whoever writes to a directory.
        from auditbot.storage.s3_adding import S3Adding  # noqa: PLC0415  # only for a bucket

        return S3Adding(bucket, prefix, self.s3, self.profile, self.origin)


def access_place(
    given: str | None,
    home: Path,
    archive: S3,
    environ: Mapping[str, str],
    option: str = "--access-log",
    *,
    added: Added = ACCESS_LOG,
) -> AccessPlace | None:
    """Return where entries are added, ``None`` if nobody wants that.

    Args:
        given: what ``--access-log`` says
        home: where this machine keeps what it knows
        archive: how the archive's store is reached; its keys are not used
        environ: the process's environment
        option: what the option is called
        added: what is added there

    Raises:
        ConfigError: it is no place, or the file cannot be used.
    """
    path = home / added.file
    file = _read(path)
    url = given or environ.get(added.variable) or file.place
    if not url:
        return None
    scheme, _, rest = url.partition(":")
    is_place = rest.strip("/") and (scheme == "file" or (scheme == "s3" and rest[:2] == "//"))
    if not is_place or (scheme == "s3" and not rest[2:].partition("/")[0]):
        raise ConfigError(
            f"“{url}” is no place for {added.what}: write s3://BUCKET/PREFIX or file:DIRECTORY."
        )
    s3 = S3(
        endpoint_url=file.endpoint_url or archive.endpoint_url,
        region=file.region or archive.region,
        access_key_id=Secret(file.access_key_id) if file.access_key_id else None,
        secret_access_key=Secret(file.secret_access_key) if file.secret_access_key else None,
        path_style=archive.path_style if file.path_style is None else file.path_style,
        ca_file=file.ca_file or archive.ca_file,
    )
    profile = environ.get(added.profile_variable) or file.profile
    by = f"“place” in “{path}”"
    if given or environ.get(added.variable):
        by = option if given else added.variable
    origin = Origin(
        place=by,
        setting=f"{{}} in “{path}”",
        inherited=frozenset(
            name
            for name in ("endpoint_url", "region", "ca_file")
            if getattr(archive, name) != getattr(S3(), name) and not getattr(file, name)
        ),
        credentials=None if file.access_key_id else _chain(profile),
    )
    return AccessPlace(url, s3, profile, path, origin)


def _chain(profile: str | None) -> str:
    return f"the profile “{profile}”" if profile else "the environment or the default profile"


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as opened:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = opened.read(_LARGEST).decode("utf-8", "replace")
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise ConfigError(f"“{path}” cannot be read: {error.strerror}.") from None
    try:
        found: Any = YAML(typ="safe", pure=True).load(text)
        settings = msgspec.convert(found or {}, type=_File)
    except (YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "it is no YAML"
        raise ConfigError(f"“{path}” cannot be used: {reason}.") from None
    if settings.secret_access_key and mode & 0o077:
        raise ConfigError(f"“{path}” holds a secret and others may read it: chmod 600 it.")
    if bool(settings.access_key_id) != bool(settings.secret_access_key):
        raise ConfigError(
            f"“{path}” has one of access_key_id and secret_access_key: write both, or neither."
        )
    return settings
