"""A mail whose head says what is meant, whatever people call themselves and their rooms.

The head is written here and not by Python's ``email``: that takes a text for one in which encoded
words (RFC 2047) have to be decoded first, inside of quotation marks too, and what a sender encoded
would become header fields, recipients and a body of their own. Here a text is either plain or one
encoded word after the other, all of it ASCII. What was written is read again and compared, with a
reader that had no part in it.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, compat32
from email.utils import getaddresses
from itertools import groupby

from auditbot.reader.render.words import one_line

NAMES_LEFT_OUT = "X-Steward-Names-Left-Out"
"""The field of a mail whose head could not be written as it was meant."""
_WIDTH = 76
_LONGEST_WORD = 300
"""Characters that stand on one line; a line of more than 998 is no mail."""
_ENCODED_BYTES = 42
"""Of text in one encoded word, which is 75 characters at most."""
_PLAIN = re.compile(r"[!-~]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9 @:._'()+#&/!-]{1,200}")
"""A name that may stand in quotation marks: nothing in it can be taken for their end."""
_ODD = re.compile(r"[^A-Za-z0-9 .,:;@<>()/+_-]")


@dataclass(frozen=True, slots=True)
class Head:
    """The header fields of a mail, without those that say how its body is written."""

    sender: Address
    to: tuple[Address, ...]
    fields: tuple[tuple[str, str], ...]
    """Names of fields with texts, each as ``head_text`` returns it."""

    @property
    def names(self) -> list[str]:
        """Return the names of all fields, in order."""
        return ["From", "To", *(name for name, _ in self.fields)]

    def as_bytes(self) -> bytes:
        """Return the lines, without the empty one that ends a head."""
        lines = [
            _folded("From", _address_words((self.sender,))),
            _folded("To", _address_words(self.to)),
            *(_folded(name, _text_words(text)) for name, text in self.fields),
        ]
        return "".join(lines).encode("ascii")

    def without_names(self) -> "Head":
        """Return a head without anything that people chose, except for the letters of their IDs."""
        return Head(
            _nameless(self.sender),
            tuple(map(_nameless, self.to)),
            (
                *((name, _ODD.sub("_", text)) for name, text in self.fields),
                (NAMES_LEFT_OUT, "they could not be written here as they are, see the text below"),
            ),
        )


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail before it is written."""

    head: Head
    content: EmailMessage
    """The body, with the fields that say how it is written and no others."""

    def as_bytes(self) -> bytes:
        """Return what is written if it says what is meant."""
        return self.head.as_bytes() + self.content.as_bytes(policy=SMTP)

    def as_meant(self) -> tuple[bytes, bool]:
        """Return what is written, and whether the names had to be left out of its head."""
        body = self.as_bytes()
        if self._is_read_as_meant(body):
            return body, False
        return Mail(self.head.without_names(), self.content).as_bytes(), True

    def _is_read_as_meant(self, body: bytes) -> bool:
        # The older of Python's two readers, which decodes nothing unless it is told to.
        found = message_from_bytes(body, policy=compat32)
        texts = [re.sub(r"\r?\n(?=[ \t])", "", str(value)) for value in found.values()]
        head = self.head
        people = len(head.names) - len(head.fields)
        try:
            return (
                found.keys() == [*head.names, *self.content.keys()]
                and found.is_multipart() == self.content.is_multipart()
                and _read_people(texts[0]) == _people((head.sender,))
                and _read_people(texts[1]) == _people(head.to)
                and [_read(text) for text in texts[people : len(head.names)]]
                == [text for _, text in head.fields]
            )
        except (MessageError, ValueError, LookupError):
            return False


def head_text(text: object) -> str:
    """Return a text for a head: on one line, and nothing in it is the beginning of an encoded word.

    What begins one is spelled out, as it would be decoded by whoever takes the mail apart and writes
    it anew; characters that cannot be encoded become question marks.
    """
    sound = one_line(text).encode("utf-8", "replace").decode()
    return sound.replace("=?", "=⟨U+003F⟩")


def _nameless(person: Address) -> Address:
    return Address("", person.username, person.domain)


def _folded(name: str, words: Iterable[str]) -> str:
    """Return a field; a line is broken between words only, and none of them is empty."""
    lines = [f"{name}:"]
    for word in words:
        # The first word stays beside the name: some readers lose a field that begins with a break.
        if len(lines[-1]) + 1 + len(word) > _WIDTH and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines) + "\r\n"


def _text_words(text: str) -> Iterator[str]:
    for is_plain, some in groupby(text.split(" "), key=_is_plain):
        words = list(some)
        yield from words if is_plain else _encoded(" ".join(words))


def _is_plain(word: str) -> bool:
    return bool(_PLAIN.fullmatch(word)) and len(word) <= _LONGEST_WORD and "=?" not in word


def _encoded(text: str) -> Iterator[str]:
    """Yield encoded words; what is between them does not count, so a long text has no gaps."""
    part = b""
    for character in text:
        encoded = character.encode()
        if len(part) + len(encoded) > _ENCODED_BYTES:
            yield _encoded_word(part)
            part = b""
        part += encoded
    if part:
        yield _encoded_word(part)


def _encoded_word(part: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(part).decode()}?="


def _address_words(people: tuple[Address, ...]) -> Iterator[str]:
    for number, person in enumerate(people, 1):
        comma = "," if number < len(people) else ""
        name = person.display_name
        if not name:
            yield f"{person.addr_spec}{comma}"
            continue
        yield from [f'"{name}"'] if _PLAIN_NAME.fullmatch(name) else _encoded(name)
        yield f"<{person.addr_spec}>{comma}"


def _people(people: Iterable[Address]) -> list[tuple[str, str]]:
    return [(person.display_name, person.addr_spec) for person in people]


def _read_people(text: str) -> list[tuple[str, str]]:
    return [(_read(name), spec) for name, spec in getaddresses([text])]


def _read(text: str) -> str:
    return str(make_header(decode_header(text)))
