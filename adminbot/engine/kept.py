"""Sentences as text in the database and back, so that they can still be translated.

What is told about a plan later, after a restart perhaps, is told in the reader's language: the
template and the values are kept, not only the English sentence. What was kept before that was
so, and what others wrote, is plain text and comes back as it is.
"""

from adminbot.engine import answer
from adminbot.engine.answer import Mono, Pill, Strong
from adminbot.engine.codec import Codec, registered
from adminbot.engine.text import storable
from common.i18n import Msg

_MARK = "\x1f"
"""Before a kept sentence; text that begins with it is never taken for one."""
_CODEC = Codec(registered((answer,)))


def kept(text: str) -> str:
    """Return a sentence as text that a database takes; nothing in it is a secret's value."""
    if isinstance(text, Msg):
        return _MARK + _CODEC.encode(_shown(text)).decode()
    return storable(text).lstrip(_MARK)


def told(text: str) -> str:
    """Return what was kept."""
    if not text.startswith(_MARK):
        return text
    sentence: str = _CODEC.decode(text.removeprefix(_MARK).encode())
    return sentence


def _shown(value: object) -> object:
    """Return a value as it is shown: no more of it is kept than that."""
    match value:
        case Msg():
            values = {name: _shown(each) for name, each in value.values.items()}
            return Msg(value.template, values, plural=value.plural, number=value.number)
        case Pill():
            return value
        case Mono(text=text):
            return Mono(str(_shown(text)))
        case Strong(text=text):
            return Strong(str(_shown(text)))
        case _:
            return str(value)
