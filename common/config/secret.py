"""A secret value that does not print itself."""

import hmac


class Secret:
    """A token, password or key: kept out of logs, tracebacks and ``repr`` by construction."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; call this only where it goes on the wire or into a cipher."""
        return self._value

    def matches(self, presented: str | bytes) -> bool:
        """Compare in constant time; an empty secret matches nothing."""
        offered = (
            presented if isinstance(presented, bytes) else presented.encode("utf-8", "replace")
        )
        return bool(self._value) and hmac.compare_digest(self._value.encode(), offered)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other.reveal())

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__
