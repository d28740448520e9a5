"""Structured log lines: a sentence and named values; never message text, never a secret."""

import json
import logging
import sys
from datetime import UTC, datetime

from common.config.secret import Secret

_ROOT = "steward"


class Log:
    """The log of one area of the program.

    Values are shown with control characters escaped, cut at 300 characters, and ``Secret``
    values never.
    """

    def __init__(self, area: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{area}")  # noqa: TID251  # the one place

    def debug(self, sentence: str, **values: object) -> None:
        """Say something for developers."""
        self._logger.debug(sentence, extra={"values": values})

    def info(self, sentence: str, **values: object) -> None:
        """Say something that happened."""
        self._logger.info(sentence, extra={"values": values})

    def warning(self, sentence: str, **values: object) -> None:
        """Say something that an admin may have to look at."""
        self._logger.warning(sentence, extra={"values": values})

    def error(self, sentence: str, **values: object) -> None:
        """Say something that an admin has to act on."""
        self._logger.error(sentence, extra={"values": values})

    def crash(self, sentence: str, error: BaseException) -> None:
        """Say, at a process's outer edge, what bug ended it; with the traceback."""
        self._logger.critical(sentence, exc_info=error, extra={"values": {}})


_LONGEST = 300


def shown(value: object) -> str:
    """Return a value as it may appear in a log line: one line, bounded, no secret."""
    if isinstance(value, Secret):
        return "(secret)"
    text = value if isinstance(value, str) else str(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    # json escapes control characters; isprintable() catches bidi controls and separators.
    if text.isprintable() and text and " " not in text and '"' not in text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = f"{moment} {record.levelname:<7} {record.name}: {record.getMessage()}"
        for name, value in getattr(record, "values", {}).items():
            line += f" {name}={shown(value)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "area": record.name,
            "message": record.getMessage(),
        }
        for name, value in getattr(record, "values", {}).items():
            entry[name] = value if isinstance(value, int | float | bool) else shown(value)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configure_logging(level: str, *, as_json: bool) -> None:
    """Send all log lines to standard error; called once, by the process's composition root."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    root = logging.getLogger()  # noqa: TID251  # the one place
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(level)  # noqa: TID251  # the one place


def silence(library: str) -> None:
    """Keep a library's own log lines to itself, errors included."""
    logging.getLogger(library).setLevel(logging.CRITICAL)  # noqa: TID251  # the one place
