"""JSON that is signed: one spelling for each value, and signatures over it.

Source: Matrix specification v1.18, appendices, "Canonical JSON" and "Signing JSON".
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import vodozemac

Json = dict[str, Any]
"""A JSON object."""

Sign = Callable[[bytes], str]
"""Return the Ed25519 signature of some bytes as unpadded base64."""

_LARGEST_INTEGER = 2**53 - 1


class NotCanonicalError(ValueError):
    """The value has no canonical form: a float, a huge integer, a lone surrogate, too deep."""


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Return the one canonical encoding of a JSON object, or raise ``NotCanonicalError``."""
    try:
        _check(value)
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
        ).encode()
    except (RecursionError, TypeError, UnicodeEncodeError) as error:
        raise NotCanonicalError(str(error)) from error


def _check(value: object) -> None:
    match value:
        case bool() | str() | None:
            return
        case int() if abs(value) <= _LARGEST_INTEGER:
            return
        case Mapping():
            if not all(isinstance(key, str) for key in value):
                raise NotCanonicalError("A key is not a string.")
            _check(list(value.values()))
        case list() | tuple():
            for member in value:
                _check(member)
        case _:
            raise NotCanonicalError(f"A value of type “{type(value).__name__}” is not allowed.")


def signable(value: Mapping[str, Any]) -> bytes:
    """Return what a signature of this object covers: all but ``signatures`` and ``unsigned``."""
    return canonical_json(
        {key: member for key, member in value.items() if key not in {"signatures", "unsigned"}}
    )


def sign_json(value: Mapping[str, Any], *, user_id: str, key_id: str, sign: Sign) -> Json:
    """Return the object with one more signature."""
    signature = sign(signable(value))
    signatures = {user: dict(by_key) for user, by_key in value.get("signatures", {}).items()}
    signatures.setdefault(user_id, {})[key_id] = signature
    return {**value, "signatures": signatures}


def signature_of(value: Mapping[str, Any], *, user_id: str, key_id: str) -> str | None:
    """Return the signature that an untrusted object carries under a name, if it does."""
    signatures = value.get("signatures")
    by_key = signatures.get(user_id) if isinstance(signatures, Mapping) else None
    signature = by_key.get(key_id) if isinstance(by_key, Mapping) else None
    return signature if isinstance(signature, str) else None


def is_signed(value: Mapping[str, Any], *, user_id: str, key_id: str, public_key: str) -> bool:
    """Whether an untrusted object carries a valid Ed25519 signature by this key."""
    signature = signature_of(value, user_id=user_id, key_id=key_id)
    if signature is None:
        return False
    try:
        vodozemac.Ed25519PublicKey.from_base64(public_key).verify_signature(
            signable(value), vodozemac.Ed25519Signature.from_base64(signature)
        )
    except ValueError:
        return False
    return True


def unpadded(data: bytes) -> str:
    """Return base64 without padding (appendices, "Unpadded Base64")."""
    return base64.b64encode(data).decode().rstrip("=")


def from_unpadded(text: str) -> bytes:
    """Return the bytes of base64 with or without padding, or raise ``ValueError``."""
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def parse_object(data: bytes) -> Json | None:
    """Return an untrusted JSON object, or ``None`` if it is none.

    Lone surrogates are let through, as Matrix clients let them through: whoever sends one must
    not become unreadable by it.
    """
    value: object
    try:
        value = msgspec.json.decode(data)
    except RecursionError:
        return None
    except ValueError:
        try:
            value = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def text_of(value: Mapping[str, Any], key: str, *, longest: int = 255) -> str | None:
    """Return a member of an untrusted object if it is a string of bounded length, not empty."""
    text = value.get(key)
    if not isinstance(text, str) or not 0 < len(text) <= longest:
        return None
    # First what nearly all are: this is called for every field of every event.
    return text if (text.isascii() and "\0" not in text) or is_storable(text) else None


def object_of(value: Mapping[str, Any], key: str) -> Json:
    """Return a member of an untrusted object if it is an object, else an empty one."""
    member = value.get(key)
    return member if isinstance(member, dict) else {}


def is_storable(text: str) -> bool:
    """Whether a database can store it: PostgreSQL takes no NUL, nobody takes a lone surrogate."""
    return "\0" not in text and (
        text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)
    )
