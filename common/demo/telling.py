"""How the demo prints: progress while something runs, then what was said and answered."""

import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

_WIDTH = 100
_NAME = 10


class Teller:
    """Prints the story and remembers what of it did not happen."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self._colours = sys.stdout.isatty()

    def say(self, text: str) -> None:
        """Print a line, at once."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def title(self, text: str) -> None:
        """Print the heading of a chapter."""
        self.say(f"\n{self._styled('1', text)}\n")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what is being started, and how long it took."""
        sys.stdout.write(f"  {what} … ")
        sys.stdout.flush()
        began = time.monotonic()
        yield
        self.say(f"ready in {time.monotonic() - began:.1f} s")

    def speech(self, name: str, text: str) -> None:
        """Print what somebody wrote."""
        self.say(f"  {self._styled('36', f'{name:<{_NAME}}')}{text}")

    def answer(self, name: str, text: str) -> None:
        """Print what a bot answered, below its name."""
        first, *rest = text.splitlines() or [""]
        self.say(f"  {self._styled('32', f'{name:<{_NAME}}')}{_cut(first)}")
        for line in rest:
            self.say(f"  {'':<{_NAME}}{_cut(line)}".rstrip())
        self.say("")

    def command(self, line: str) -> None:
        """Print a command as typed in a terminal."""
        self.say(f"  $ {line}\n")

    def quote(self, text: str) -> None:
        """Print a program's output."""
        self.say(textwrap.indent(text.rstrip(), "  "))

    def expect(self, happened: bool, otherwise: str) -> None:  # noqa: FBT001  # reads as a sentence
        """Remember what did not happen."""
        if not happened:
            self.failed(otherwise)

    def failed(self, what: str) -> None:
        """Print and remember what did not happen."""
        self.missing.append(what)
        self.say(f"\n{self._styled('31', '✘')} This did not happen as it should: {what}")

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
