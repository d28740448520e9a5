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
from common.i18n import t
from common.setup import REGISTRATION


async def database_findings(config: Config) -> list[Finding]:
    """Connect and compare the schema's version."""
    try:
        state = await schema_state(config.database.url.reveal(), timeout_seconds=TIMEOUT_SECONDS)
    except TransientError as error:
        return [
            broken(
                t("The database cannot be used: {reason}.", reason=error),
                mend=t("start it, or correct database.url"),
            )
        ]
    kind = "PostgreSQL" if state.file is None else f"SQLite, {state.file}"
    return [_schema_finding(state, kind), *_open_file(state.file, t("database"))]


def _schema_finding(state: SchemaState, kind: str) -> Finding:
    if state.version > state.expected:
        return broken(
            t(
                "The database ({kind}) was used by a newer Steward: its schema is {version}, this "
                "program knows {expected}.",
                kind=kind,
                version=state.version,
                expected=state.expected,
            ),
            mend=t("install that version again, or restore a backup from before"),
        )
    if state.version == 0:
        return fine(t("The database ({kind}) can be used; the first start fills it.", kind=kind))
    if state.version < state.expected:
        return noted(
            t(
                "The database ({kind}) is at schema {version} of {expected}.",
                kind=kind,
                version=state.version,
                expected=state.expected,
            ),
            mend=t("make a backup; the next start brings it up to date"),
        )
    return fine(t("The database ({kind}) is up to date.", kind=kind))


def file_findings(config: Config, config_file: Path | None) -> list[Finding]:
    """Look at who may read the configuration, and at the registration beside it."""
    if config_file is None:
        return []
    exposed = _open_file(config_file, t("configuration"))
    found = exposed or [fine(t("Only its owners can read {file}.", file=config_file))]
    beside = config_file.parent / REGISTRATION
    if beside.exists():
        found += [*_open_file(beside, t("registration")), _compared(config, beside)]
    return found


def _open_file(path: Path | None, what: str) -> list[Finding]:
    if path is None or not path.exists():
        return []
    mode = stat.S_IMODE(path.stat().st_mode)
    octal = f"{mode:o}"
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return []
    return [
        broken(
            t(
                "Every account of this machine can get at the {what} file {path} (mode {mode}).",
                what=what,
                path=path,
                mode=octal,
            ),
            mend=f"chmod o-rwx {path}",
        )
    ]


def _compared(config: Config, beside: Path) -> Finding:
    """Tell where the registration differs; by the keys' names only, some are secrets."""
    try:
        found = YAML(typ="safe", pure=True).load(beside.read_text("utf-8"))
    except PermissionError:
        return noted(t("{file} cannot be read, so it was not compared.", file=beside))
    except (OSError, UnicodeDecodeError, YAMLError, ValueError):
        found = None
    if not isinstance(found, Mapping):
        return broken(
            t("{file} cannot be understood.", file=beside),
            mend=t("write it anew with “steward config registration”"),
        )
    differing = [
        key
        for key, value in registration(config).items()
        if key not in found or found[key] != value
    ]
    if not differing:
        return fine(t("{file} belongs to this configuration.", file=beside))
    return broken(
        t(
            "{file} differs from the configuration in {keys}.",
            file=beside,
            keys=", ".join(differing),
        ),
        mend=t(
            "correct one of the two, or write it anew with “steward config registration”, and "
            "restart the homeserver"
        ),
    )
