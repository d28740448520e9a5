"""What holds for every endpoint, whatever it is: found by walking the packages."""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, NewType, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adminbot.engine.codec import Codec
from adminbot.engine.step import canonical
from adminbot.engine.uses import calls_of
from adminbot.known import known_types
from common.config.secret import Secret
from common.homeserver import client_server, synapse
from common.homeserver.port import Danger, HttpChange, HttpGet, Permission
from common.i18n import Msg, t
from common.ids import RoomId, UserId

CODEC = Codec(known_types())
HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.dictionaries(HOSTILE, HOSTILE | st.integers() | st.booleans() | st.none(), max_size=3)


def endpoints(having: str) -> list[type]:
    """Return every endpoint of ours that has a method."""
    found = []
    for package in (client_server, synapse):
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            for value in vars(import_module(module.name)).values():
                ours = isinstance(value, type) and value.__module__ == module.name
                if ours and hasattr(value, "to_http") and hasattr(value, having):
                    found.append(value)
    return found


CHANGES = endpoints("describe")
READS = [one for one in endpoints("read_response") if not hasattr(one, "describe")]


def values(hint: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911  # one for each kind of type
    """Return values of a field, as hostile as its type allows."""
    if isinstance(hint, NewType):
        return values(hint.__supertype__)
    if get_origin(hint) in {types.UnionType, typing.Union}:
        return st.one_of([values(each) for each in get_args(hint)])
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), min_size=1, max_size=3).map(tuple)
    if get_origin(hint) is not None and issubclass(get_origin(hint), Mapping):
        return st.dictionaries(HOSTILE, values(get_args(hint)[1]), max_size=3)
    if get_origin(hint) is not None:  # a sequence of mappings
        return st.lists(JSON, max_size=2).map(tuple)
    if dataclasses.is_dataclass(hint):
        return made(typing.cast(type, hint))
    return {
        str: HOSTILE,
        int: st.integers(0, 2**53),
        bool: st.booleans(),
        type(None): st.none(),
        Secret: st.text("abc", min_size=1).map(Secret),
        Msg: st.just(t("Do something to {room}", room="!a")),
        Any: st.none() | HOSTILE | st.integers(),
    }[hint]


def made(cls: type) -> st.SearchStrategy[Any]:
    """Return instances of a dataclass."""
    hints = get_type_hints(cls)
    wanted = {each.name: values(hints[each.name]) for each in dataclasses.fields(cls)}
    return st.builds(cls, **wanted)


def test_there_are_endpoints() -> None:
    assert len(CHANGES) > 60
    assert len(READS) > 50


@pytest.mark.parametrize("cls", CHANGES, ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=15)
def test_every_change_says_what_it_does_and_survives_being_written_down(
    cls: type, data: st.DataObject
) -> None:
    change = data.draw(made(cls))

    call = change.to_http()

    assert isinstance(call, HttpChange)
    assert_clean(call.path)
    assert isinstance(change.permission, Permission)
    assert isinstance(change.danger, Danger)
    assert isinstance(change.idempotent, bool)
    assert isinstance(change.describe(), Msg)
    assert change.describe()
    again = CODEC.decode(CODEC.encode(change))
    assert canonical(again) == canonical(change)
    assert str(again.describe()) == str(change.describe())


@pytest.mark.parametrize("cls", [*CHANGES, *READS], ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=5)
def test_the_tables_of_calls_name_what_is_called(cls: type, data: st.DataObject) -> None:
    call = data.draw(made(cls)).to_http()

    said = f"{getattr(call, 'method', 'GET')} {call.path}"
    assert any(_shape(one).fullmatch(said) for one in calls_of(cls)), (said, calls_of(cls))


def _shape(call: str) -> re.Pattern[str]:
    """Return what a call looks like that is named as in “PUT /rooms/<room>[/<optional>]”."""
    fixed = re.split(r"<[^>]+>|\[[^]]+\]", call)
    return re.compile(".*".join(re.escape(part) for part in fixed))


@pytest.mark.parametrize("cls", READS, ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=15)
def test_every_read_is_a_get_that_stays_where_it_should(cls: type, data: st.DataObject) -> None:
    request = data.draw(made(cls))

    call = request.to_http()

    assert isinstance(call, HttpGet)
    assert_clean(call.path)
    assert all(isinstance(value, str) for value in call.query.values())
    # The homeserver would take it for the account that asks.
    assert "user_id" not in call.query


def assert_clean(path: str) -> None:
    assert path.startswith("/")
    assert not set(path) & set("?#\\ \r\n")
    assert not {"", "."} & set(path[1:].split("/")[:2])
    assert ".." not in path.split("/")


@pytest.mark.parametrize("cls", CHANGES, ids=lambda cls: cls.__name__)
def test_what_is_about_a_room_or_a_person_names_it_so(cls: type) -> None:
    """The grant of who governs a room is checked by ``room``; protected people by ``user``."""
    hints = get_type_hints(cls)
    own = {each.name for each in dataclasses.fields(cls)}
    for name in own:
        if hints[name] is UserId:
            assert name == "user" or "owner" in name
        if hints[name] is RoomId:
            assert "room" in own
