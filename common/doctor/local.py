"""What can be seen on this machine: files, the database, the registration beside the config."""

import stat
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from common.checks import Finding, broken, fine, noted
from common.config.registration import registration
from common.config.schema import Config
from common.database.probe import SchemaState, schema_state
from common.doctor.api import TIMEOUT_SECONDS
from common.errors import TransientError
from common.setup import REGISTRATION


async def database_findings(config: Config) -> list[Finding]:
    """Connect and compare the schema's version."""
    try:
        state = await schema_state(config.database.url.reveal(), timeout_seconds=TIMEOUT_SECONDS)
    except TransientError as error:
        return [
            broken(
                f"The database cannot be used: {error}.",
                mend="start it, or correct database.url",
            )
        ]
    kind = "PostgreSQL" if state.file is None else f"SQLite, {state.file}"
    return [_schema_finding(state, kind), *_open_file(state.file, "database")]


def _schema_finding(state: SchemaState, kind: str) -> Finding:
    if state.version > state.expected:
        return broken(
            f"The database ({kind}) was used by a newer Steward: its schema is "
            f"{state.version}, this program knows {state.expected}.",
            mend="install that version again, or restore a backup from before",
        )
    if state.version == 0:
        return fine(f"The database ({kind}) can be used; the first start fills it.")
    if state.version < state.expected:
        return noted(
            f"The database ({kind}) is at schema {state.version} of {state.expected}.",
            mend="make a backup; the next start brings it up to date",
        )
    return fine(f"The database ({kind}) is up to date.")


def file_findings(config: Config, config_file: Path | None) -> list[Finding]:
    """Look at who may read the configuration, and at the registration beside it."""
    if config_file is None:
        return []
    exposed = _open_file(config_file, "configuration")
    found = exposed or [fine(f"Only its owners can read {config_file}.")]
    beside = config_file.parent / REGISTRATION
    if beside.exists():
        found += [*_open_file(beside, "registration"), _compared(config, beside)]
    return found


def _open_file(path: Path | None, what: str) -> list[Finding]:
    if path is None or not path.exists():
        return []
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return []
    return [
        broken(
            f"Every account of this machine can get at the {what} file {path} (mode {mode:o}).",
            mend=f"chmod o-rwx {path}",
        )
    ]


def _compared(config: Config, beside: Path) -> Finding:
    """Tell where the registration differs; by the keys' names only, some are secrets."""
    try:
        found = YAML(typ="safe", pure=True).load(beside.read_text("utf-8"))
    except PermissionError:
        return noted(f"{beside} cannot be read, so it was not compared.")
    except (OSError, UnicodeDecodeError, YAMLError, ValueError):
        found = None
    if not isinstance(found, Mapping):
        return broken(
            f"{beside} cannot be understood.",
            mend="write it anew with “steward config registration”",
        )
    differing = [
        key
        for key, value in registration(config).items()
        if key not in found or found[key] != value
    ]
    if not differing:
        return fine(f"{beside} belongs to this configuration.")
    return broken(
        f"{beside} differs from the configuration in {', '.join(differing)}.",
        mend="correct one of the two, or write it anew with “steward config registration”, and "
        "restart the homeserver",
    )
