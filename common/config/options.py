"""The schema as data: every option with its kind, default, unit and the words that describe it.

Loading, the example file, the reference page and the error sentences all read this one view.
"""

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

import msgspec

from common.config.schema import Config
from common.config.secret import Secret

PREFIX = "STEWARD__"
"""What the name of every environment variable that holds an option begins with."""

Keys = tuple[str, ...]
"""Where an option stands, e.g. ``("auditbot", "s3", "region")``."""


class Kind(Enum):
    """What a value is."""

    TEXT = auto()
    WHOLE_NUMBER = auto()
    NUMBER = auto()
    SWITCH = auto()
    LIST = auto()
    GROUPS = auto()
    SECRET = auto()


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting."""

    path: Keys
    kind: Kind
    annotation: object
    required: bool
    nullable: bool
    default: object
    description: str
    expected: str
    unit: str
    example: object
    is_address: bool
    item: "Section | None" = None
    """What each group of a list of them holds."""

    @property
    def dotted(self) -> str:
        """Its name in a sentence, e.g. ``auditbot.s3.region``."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable, e.g. ``STEWARD__AUDITBOT__S3__REGION``."""
        return variable(self.path)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A group of settings, and the structure that holds them once they are read."""

    path: Keys
    type: type[msgspec.Struct]
    description: str
    members: Mapping[str, "Option | Section"]

    @property
    def dotted(self) -> str:
        """Its name in a sentence; empty for the whole configuration."""
        return ".".join(self.path)

    def options(self) -> Iterator[Option]:
        """Yield every option below, in the order of the schema."""
        for member in self.members.values():
            if isinstance(member, Option):
                yield member
            else:
                yield from member.options()


def variable(path: Keys) -> str:
    """Return the environment variable for an option."""
    return PREFIX + "__".join(path).upper()


def schema() -> Section:
    """Return the whole configuration as data."""
    return _section((), Config, "")


def _section(path: Keys, struct: type[msgspec.Struct], description: str) -> Section:
    hints = typing.get_type_hints(struct, include_extras=True)
    members: dict[str, Option | Section] = {}
    for field in msgspec.structs.fields(struct):
        below = (*path, field.name)
        base, facts = _parts(hints[field.name])
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            members[field.name] = _section(below, base, facts.description)
        else:
            members[field.name] = _option(below, field, hints[field.name])
    return Section(path=path, type=struct, description=description, members=members)


def _option(path: Keys, field: msgspec.structs.FieldInfo, annotation: object) -> Option:
    base, facts = _parts(annotation)
    arms = _arms(base)
    bare = _bare(next(arm for arm in arms if arm is not types.NoneType))
    struct = _struct_in(bare)
    kind = Kind.GROUPS if struct is not None else _KINDS[bare]
    nullable = types.NoneType in arms
    return Option(
        path=path,
        kind=kind,
        annotation=annotation,
        required=field.required,
        nullable=nullable,
        default=None if field.required else field.default,
        description=facts.description,
        expected=_expected(kind, facts),
        unit=facts.unit,
        example=facts.examples[0] if facts.examples else None,
        is_address=facts.is_address,
        item=None if struct is None else _section(path, struct, inspect.getdoc(struct) or ""),
    )


def _struct_in(bare: object) -> type[msgspec.Struct] | None:
    """Return the structure that a list holds several of."""
    if typing.get_origin(bare) is not tuple:
        return None
    inner = typing.get_args(bare)[0]
    return inner if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else None


_KINDS: Mapping[object, Kind] = {
    str: Kind.TEXT,
    int: Kind.WHOLE_NUMBER,
    float: Kind.NUMBER,
    bool: Kind.SWITCH,
    tuple[str, ...]: Kind.LIST,
    Secret: Kind.SECRET,
}


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What the ``Meta`` objects of one annotation say together."""

    description: str = ""
    examples: tuple[object, ...] = ()
    unit: str = ""
    form: str = ""
    is_address: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    min_length: int | None = None


def _parts(annotation: object) -> tuple[object, _Facts]:
    """Split ``Annotated[base, Meta(…)]``; in a union the arms may be annotated too."""
    base, *metas = typing.get_args(annotation)
    inner = [
        meta
        for arm in _arms(base)
        if typing.get_origin(arm) is typing.Annotated
        for meta in typing.get_args(arm)[1:]
    ]
    facts = _Facts()
    for meta in (*inner, *metas):
        extra = meta.extra or {}
        facts = _Facts(
            description=meta.description or facts.description,
            examples=tuple(meta.examples or facts.examples),
            unit=extra.get("unit", facts.unit),
            form=extra.get("form", facts.form),
            is_address=extra.get("address", facts.is_address),
            ge=facts.ge if meta.ge is None else meta.ge,
            gt=facts.gt if meta.gt is None else meta.gt,
            le=facts.le if meta.le is None else meta.le,
            min_length=meta.min_length or facts.min_length,
        )
    return base, facts


def _arms(base: object) -> tuple[object, ...]:
    is_union = typing.get_origin(base) in {typing.Union, types.UnionType}
    return typing.get_args(base) if is_union else (base,)


def _bare(arm: object) -> object:
    return typing.get_args(arm)[0] if typing.get_origin(arm) is typing.Annotated else arm


def _expected(kind: Kind, facts: _Facts) -> str:
    """Return what a value must be, as it stands after "must be" in a sentence."""
    if facts.form:
        return facts.form
    match kind:
        case Kind.WHOLE_NUMBER | Kind.NUMBER:
            word = "a whole number" if kind is Kind.WHOLE_NUMBER else "a number"
            return f"{word}{f' of {facts.unit}' if facts.unit else ''}{_range(facts)}"
        case Kind.SWITCH:
            return "true or false"
        case Kind.LIST:
            return 'a list of texts, for example ["one", "two"]'
        case Kind.GROUPS:
            return "a list of sections"
        case Kind.TEXT | Kind.SECRET:
            return "text that is not empty" if facts.min_length else "text"
        case _:
            assert_never(kind)


def _range(facts: _Facts) -> str:
    if facts.ge is not None and facts.le is not None:
        return f" from {facts.ge} to {facts.le}"
    if facts.gt is not None:
        return f" above {facts.gt}"
    return f", at least {facts.ge}" if facts.ge is not None else ""
