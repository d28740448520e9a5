"""What the files say that the configuration names about bridges: kinds, settings, registrations."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from adminbot.bridges.appservices import Appservice, Unreadable, appservice, read_appservices
from adminbot.bridges.instance import NOTHING_SET, BridgeSettings, read_settings
from adminbot.bridges.kind import Kind
from adminbot.bridges.load import load_kinds, read_file, read_yaml
from common.config.registration import registration
from common.config.schema import Config

OURS = "Steward"
"""Where Steward's own registration is read from: its configuration."""


def kinds_of(config: Config) -> dict[str, Kind]:
    """Return every kind by its id."""
    return _kinds(config.bridges.kinds)


def settings_of(config: Config, bridge: str) -> BridgeSettings:
    """Return what is set for a bridge."""
    return _settings(config).get(bridge, NOTHING_SET)


def appservices_of(config: Config) -> tuple[Appservice | Unreadable, ...]:
    """Return every registration that can be read here: ours, and those of bridges."""
    server = config.homeserver.server_name
    named = [one.registration for one in _settings(config).values() if one.registration]
    paths = dict.fromkeys([*config.bridges.registrations, *named])
    ours = appservice(registration(config), OURS, server)
    return (ours, *read_appservices(paths, server))


def _settings(config: Config) -> Mapping[str, BridgeSettings]:
    name = config.bridges.settings
    return {} if name is None else read_settings(read_yaml(read_file(Path(name)), name), name)


@lru_cache(maxsize=4)
def _kinds(own: tuple[str, ...]) -> dict[str, Kind]:
    return dict(load_kinds(Path(name) for name in own))
