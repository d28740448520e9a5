"""Values that were decided, as bytes and back: a plan's steps and what will be said of them.

Only what is registered comes back: bytes can name a class, never bring one.
"""

import base64
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

from common.config.secret import Secret
from common.errors import PermanentError
from common.i18n import Msg

_KIND = "$"


class CodecError(PermanentError):
    """Something cannot be written down, or was written by another version of Steward."""


def registered(modules: Iterable[ModuleType]) -> Mapping[str, type]:
    """Return every dataclass that some modules define, by name."""
    found: dict[str, type] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value):
                found[_name(value)] = value
    return found


@dataclasses.dataclass(frozen=True)
class Codec:
    """``types`` are those that may come back, by name."""

    types: Mapping[str, type]

    def encode(self, value: object) -> bytes:
        """Return a value as bytes; tuples and lists are the same to it."""
        return json.dumps(self._plain(value), ensure_ascii=True, separators=(",", ":")).encode()

    def decode(self, data: bytes) -> Any:
        """Return the value."""
        return self._value(json.loads(data))

    def _plain(self, value: object) -> Any:
        # A member of a StrEnum would come back as its text alone: only bare ones are taken.
        if value is None or type(value) in {bool, int, float, str}:
            return value
        if isinstance(value, tuple | list):
            return [self._plain(inner) for inner in value]
        if isinstance(value, Msg):
            held = [value.template, self._plain(dict(value.values)), value.plural, value.number]
            return _marked("Msg", held)
        if isinstance(value, Mapping):
            return _marked("map", [[name, self._plain(each)] for name, each in value.items()])
        scalar = next((one for one in _SCALARS if type(value) is one.type), None)
        if scalar is not None:
            return _marked(scalar.name, scalar.write(value))
        return self._dataclass(value)

    def _dataclass(self, value: object) -> Any:
        name = _name(type(value))
        if self.types.get(name) is not type(value):
            raise CodecError(f"A {name} cannot be written down.")
        fields = dataclasses.fields(self.types[name])
        return _marked(
            name, {each.name: self._plain(getattr(value, each.name)) for each in fields}
        )

    def _value(self, data: Any) -> Any:
        if isinstance(data, list):
            return tuple(self._value(each) for each in data)
        if not isinstance(data, dict):
            return data
        kind, held = data[_KIND], data["v"]
        if kind == "Msg":
            template, values, plural, number = held
            return Msg(template, self._value(values), plural=plural, number=number)
        if kind == "map":
            return {name: self._value(each) for name, each in held}
        scalar = next((one for one in _SCALARS if one.name == kind), None)
        if scalar is not None:
            return scalar.read(held)
        if kind not in self.types:
            raise CodecError(f"This Steward knows no {kind}.")
        return self.types[kind](**{name: self._value(each) for name, each in held.items()})


@dataclasses.dataclass(frozen=True)
class _Scalar:
    name: str
    type: type
    write: Callable[[Any], object]
    read: Callable[[Any], object]


_SCALARS = (
    _Scalar("Secret", Secret, lambda one: one.reveal(), Secret),
    _Scalar("bytes", bytes, lambda one: base64.b64encode(one).decode(), base64.b64decode),
    _Scalar(
        "datetime",
        datetime,
        lambda one: one.astimezone(UTC).isoformat(),
        datetime.fromisoformat,
    ),
    _Scalar(
        "timedelta",
        timedelta,
        lambda one: one.total_seconds(),
        lambda held: timedelta(seconds=held),
    ),
)


def _marked(kind: str, value: object) -> dict[str, object]:
    return {_KIND: kind, "v": value}


def _name(type_: type) -> str:
    return f"{type_.__module__}.{type_.__qualname__}"
