"""Plans of what is to be deleted for ever, and what officers sign of them; pure.

A plan has one spelling, so that what an officer was shown is what they signed. What it is about it
names by hashes: of each document that will announce something, the hash of what that lists.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from common.officers import (
    LATEST_S,
    OfficerKey,
    approved_message,
    parse_officer_key,
    unbase64,
)

LARGEST_PLAN = 2**20
LARGEST_APPROVAL = 2**21 + 2**14
"""Bytes; a plan stands in its approval as a text in JSON, and in each document that announces it."""
LISTS = ("objects", "sessions", "media", "day_keys", "content_keys")
"""What a document lists, in the order in which it is hashed."""
_CLOCKS_MS = 3_600_000
"""By how much the clocks of two machines may differ."""

T = TypeVar("T", bound=msgspec.Struct)
_Moment = Annotated[int, Meta(ge=0, le=2**53)]
_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document that will announce what goes: where, how many things, and the hash of the list."""

    destination: str
    items: Annotated[int, Meta(ge=1)]
    sha256: _Digest


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be deleted or destroyed.

    Args:
        archive: the id of the key that signs the archive
        what: how it was asked for
        counts: how much of what goes
        lines: what the dry run said
    """

    v: Literal[1]
    type: Literal["steward.plan"]
    id: str
    act: Literal["retention", "erasure"]
    server_name: str
    archive: str
    made_ms: _Moment
    expires_ms: _Moment
    actor: str
    reason: str
    what: dict[str, str | int | None]
    counts: dict[str, int]
    lines: tuple[str, ...]
    documents: Annotated[tuple[Document, ...], Meta(min_length=1)]

    @property
    def body(self) -> bytes:
        """Return its one spelling."""
        return _canonical(self)


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An officer's signature of a plan; ``key`` is their verifier key."""

    key: str
    time_s: Annotated[int, Meta(ge=0, le=LATEST_S)]
    signature: str


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an officer hands back: the plan, and their signature."""

    v: Literal[1]
    type: Literal["steward.approval"]
    plan: str
    signed: Signed

    @property
    def body(self) -> bytes:
        """Return its one spelling."""
        return _canonical(self)


class Approved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in a document of the archive that officers approved."""

    plan: str
    approvals: tuple[Signed, ...]


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the hash of what a document lists.

    It is over a line for each thing: the list that it is in, its SHA-256, its size and its key.
    """
    lines = [
        f"{name} {item['sha256']} {item['size']} {item['key']}\n"
        for name in LISTS
        for item in content.get(name, ())
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def count_of(content: Mapping[str, Any]) -> int:
    """Return how many things a document lists."""
    return sum(len(content.get(name, ())) for name in LISTS)


def parse_plan(body: bytes) -> Plan:
    """Return a plan.

    Raises:
        ValueError: it is none, or not in its one spelling.
    """
    return _spelled(body, Plan, LARGEST_PLAN, "a plan")


def parse_approval(body: bytes) -> Approval:
    """Return an approval; whether its signature is right is not looked at.

    Raises:
        ValueError: it is none, or not in its one spelling.
    """
    return _spelled(body, Approval, LARGEST_APPROVAL, "an approval")


def approvers_of(plan: Plan, approvals: Iterable[Signed]) -> list[OfficerKey]:
    """Return who approved a plan, each once, whoever they are.

    Raises:
        ValueError: one of the signatures is not right, or of another time; the words say which.
    """
    found: list[OfficerKey] = []
    for one in approvals:
        try:
            key = parse_officer_key(one.key)
        except ValueError as error:
            raise ValueError(f"the key “{one.key}” {error}") from None
        signature = unbase64(one.signature)
        if signature is None or not key.signed(approved_message(plan.body, one.time_s), signature):
            raise ValueError(f"the signature is not that of “{key.name}” over this plan")
        if not plan.made_ms - _CLOCKS_MS <= one.time_s * 1000 <= plan.expires_ms:
            raise ValueError(f"“{key.name}” signed it before it was made, or after it had expired")
        if key not in found:
            found.append(key)
    return found


def people(keys: Sequence[OfficerKey]) -> str:
    """Return the names of some people, in a row."""
    return ", ".join(f"“{key.name}”" for key in keys)


def _spelled(body: bytes, form: type[T], most_bytes: int, what: str) -> T:
    """Return what was decoded, if it is in its one spelling."""
    if len(body) > most_bytes:
        raise ValueError("it is too long")
    try:
        found = msgspec.json.decode(body, type=form)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _canonical(found) != body:
        raise ValueError(f"it is not spelled as Steward spells {what}: it was changed")
    return found


def _canonical(value: msgspec.Struct) -> bytes:
    return json.dumps(
        msgspec.to_builtins(value),
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
        sort_keys=True,
    ).encode()
