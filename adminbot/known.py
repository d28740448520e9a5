"""Every kind of step and answer that may be stored and come back."""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType

from adminbot import own
from adminbot.bridges import steps as bridge_steps
from adminbot.engine import answer, room_step, server_steps, step
from adminbot.engine.codec import registered
from common import homeserver


def known_types() -> Mapping[str, type]:
    """Return the dataclasses of our modules that hold endpoints, own changes and answers."""
    return registered(
        [
            answer,
            step,
            room_step,
            server_steps,
            bridge_steps,
            *_modules(homeserver),
            *_modules(own),
        ]
    )


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield import_module(found.name)
