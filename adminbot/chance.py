"""Chance, for what nobody must guess."""

import secrets
import string

from common.config.secret import Secret

# Without what is easily taken for another: 0 O, 1 l I. 55 signs, 20 of them: 115 bits.
_SIGNS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
_GROUPS, _GROUP = 4, 5
# Without - and _: a word that begins with -- would be read as an option of the command it is
# pasted into, and a double click selects all of it.
_OF_WORDS = string.ascii_letters + string.digits


class SystemDice:
    """The operating system's source of randomness."""

    def password(self) -> Secret:
        """Return a new password of 20 signs in four groups: at least 115 bits."""
        groups = ("".join(secrets.choice(_SIGNS) for _ in range(_GROUP)) for _ in range(_GROUPS))
        return Secret("-".join(groups))

    def token(self, length: int = 16) -> str:
        """Return a new random word of letters and digits, 5.95 bits each."""
        return "".join(secrets.choice(_OF_WORDS) for _ in range(length))
