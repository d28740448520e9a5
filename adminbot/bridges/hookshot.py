"""Hookshot's connections: state events of a room, read and written; pure.

Source: matrix-hookshot 7.4.3, ``src/Connections/FeedConnection.ts``, ``GithubRepo.ts``,
``GenericHook.ts``; Matrix specification, "Size limits" (a state key has at most 255 bytes).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from common.errors import UserError
from common.i18n import t

KIND = "matrix-hookshot"
FEED = "uk.half-shot.matrix-hookshot.feed"
GITHUB = "uk.half-shot.matrix-hookshot.github.repository"
WEBHOOK = "uk.half-shot.matrix-hookshot.generic.hook"

LONGEST_KEY = 255
LONGEST_TEMPLATE = 1024
LONGEST_LABEL = 255

_REPOSITORY = re.compile(
    r"(?:https://github\.com/)?([A-Za-z0-9][A-Za-z0-9-]{0,38})/([A-Za-z0-9_.-]{1,100}?)(?:\.git)?/?"
)


class State(Protocol):
    """What is needed of ``common.homeserver.synapse.rooms.StateEvent``."""

    @property
    def type(self) -> str:
        """Its type."""
        ...

    @property
    def state_key(self) -> str:
        """Its key."""
        ...

    @property
    def content(self) -> Mapping[str, Any]:
        """Its content."""
        ...


@dataclass(frozen=True)
class Feed:
    """A feed that a room follows."""

    url: str
    label: str | None = None
    template: str | None = None

    def content(self) -> tuple[tuple[str, str | bool], ...]:
        """Return the state event's content."""
        found = [("url", self.url), ("label", self.label), ("template", self.template)]
        return tuple((name, value) for name, value in found if value is not None)


@dataclass(frozen=True)
class Connected:
    """A connection of a room: its state key, and what people call it."""

    key: str
    name: str
    detail: str | None = None


def feed(url: str, label: str | None = None, template: str | None = None) -> Feed:
    """Return a feed as Hookshot takes it; ``UserError`` says what it would not."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = None, None
    if parts is None or parts.scheme not in {"http", "https"} or not host:
        raise UserError(t("“{url}” is no address of a feed; one begins with https://.", url=url))
    if not url.isprintable() or " " in url or parts.username is not None:
        raise UserError(t("The address of the feed holds something that it must not."))
    if len(url.encode()) > LONGEST_KEY:
        raise UserError(
            t(
                "The address is longer than {most} bytes; Matrix takes no longer one.",
                most=LONGEST_KEY,
            )
        )
    if label is not None and len(label) > LONGEST_LABEL:
        raise UserError(t("The title is longer than {most} characters.", most=LONGEST_LABEL))
    if template is not None and len(template) > LONGEST_TEMPLATE:
        raise UserError(t("The template is longer than {most} characters.", most=LONGEST_TEMPLATE))
    return Feed(url, label, template)


def feeds(state: Iterable[State]) -> list[Feed]:
    """Return the feeds among a room's state; emptied ones are gone."""
    found = []
    for event in state:
        url = event.content.get("url")
        if event.type == FEED and isinstance(url, str) and url:
            found.append(Feed(url, _text(event, "label"), _text(event, "template")))
    return sorted(found, key=lambda one: (one.label or one.url).lower())


def repository(text: str) -> tuple[str, str]:
    """Return owner and name of a GitHub repository, however it was given."""
    found = _REPOSITORY.fullmatch(text.strip())
    if found is None:
        raise UserError(
            t("“{text}” is no repository; one looks like https://github.com/ORG/REPO.", text=text)
        )
    return found[1].lower(), found[2].lower()


def repositories(state: Iterable[State]) -> list[Connected]:
    """Return the repositories among a room's state."""
    found = []
    for event in state:
        org, repo = event.content.get("org"), event.content.get("repo")
        alive = event.content.get("disabled") is not True
        if event.type == GITHUB and isinstance(org, str) and isinstance(repo, str) and alive:
            found.append(Connected(event.state_key, f"{org}/{repo}"))
    return sorted(found, key=lambda one: one.name)


def webhooks(state: Iterable[State]) -> list[Connected]:
    """Return the webhooks among a room's state; their addresses are not in it."""
    found = []
    for event in state:
        name = event.content.get("name")
        alive = event.content.get("disabled") is not True
        if event.type == WEBHOOK and isinstance(name, str) and alive:
            found.append(Connected(event.state_key, name, _text(event, "expirationDate")))
    return sorted(found, key=lambda one: one.name)


def _text(event: State, key: str) -> str | None:
    value = event.content.get(key)
    return value if isinstance(value, str) and value else None
