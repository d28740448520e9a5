"""Which files a command means: addresses, a message that is replied to, links to messages."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from adminbot.engine.answer import Mono, Pill, Spans, Table, size, when
from adminbot.engine.link import Link, parse_link
from adminbot.engine.mxc import Mxc, parse_mxc, shared_files
from adminbot.engine.supply import Attached, Reading, Settings
from common.errors import UserError
from common.homeserver.errors import NotFoundError
from common.homeserver.port import AdminReader
from common.homeserver.synapse.media import GetMedia, Media
from common.homeserver.synapse.rooms import ResolveAlias
from common.i18n import t
from common.ids import RoomId, parse_event_id, parse_room_alias, parse_room_id

MOST_FILES = 100


@dataclass(frozen=True)
class Files:
    """Where a command looks for the files it is about."""

    admin: AdminReader
    reading: Reading
    attached: Attached

    async def named(self, words: Iterable[str]) -> tuple[Mxc, ...]:
        """Return the files that some words name, or those of the message that is replied to."""
        found: list[Mxc] = []
        for word in words:
            file = parse_mxc(word)
            found += [file] if file is not None else await self._linked(word)
        if not found:
            found = await self._replied_to()
        files = tuple(dict.fromkeys(found))
        if len(files) > MOST_FILES:
            raise UserError(t("That are more than {most} files; name fewer.", most=MOST_FILES))
        return files

    async def _replied_to(self) -> list[Mxc]:
        quoted = await self.attached.quoted()
        files = [] if quoted is None else list(shared_files(quoted.content))
        if not files:
            raise UserError(
                t(
                    "Say which file: reply to its message, or give mxc://… or a link to the message."
                )
            )
        return files

    async def _linked(self, word: str) -> list[Mxc]:
        link = parse_link(word)
        if link is None or link.event is None:
            raise UserError(
                t("“{word}” is neither a file (mxc://…) nor a link to a message.", word=word)
            )
        message = await self.reading.message(await self._room(link), parse_event_id(link.event))
        if message is None:
            raise UserError(
                t("I cannot read the message at {link}; give the file itself.", link=Mono(word))
            )
        files = list(shared_files(message.content))
        if not files:
            raise UserError(t("The message at {link} shares no file.", link=Mono(word)))
        return files

    async def _room(self, link: Link) -> RoomId:
        if link.target.startswith("#"):
            return await self.admin.read(ResolveAlias(parse_room_alias(link.target)))
        return parse_room_id(link.target)


async def media_of(admin: AdminReader, file: Mxc) -> Media:
    """Return what the homeserver knows of a file, or raise a ``UserError``."""
    try:
        return await admin.read(GetMedia(file.server, file.media_id))
    except NotFoundError:
        raise UserError(t("This server has no copy of {file}.", file=Mono(str(file)))) from None


def own(settings: Settings, file: Mxc) -> bool:
    """Say whether a file is this server's own."""
    return file.server == settings.config.homeserver.server_name


def listed_media(files: Iterable[tuple[Mxc, Media]], now: datetime) -> Table:
    """Return files as a table."""
    rows = tuple(
        (
            Mono(str(file)),
            Mono(one.upload_name or ""),
            sized(one.media_length),
            Pill(one.user_id) if one.user_id else "",
            when(one.created_ts, now) or "",
        )
        for file, one in files
    )
    return Table((t("File"), t("Name"), t("Size"), t("By"), t("Uploaded")), rows)


def sized(number: int | None) -> str:
    """Return a number of bytes that may not be known."""
    return "?" if number is None else size(number)


def many(files: Iterable[Mxc]) -> Spans:
    """Return files one after the other."""
    spans: list[Mono | str] = []
    for file in files:
        spans += [", ", Mono(str(file))] if spans else [Mono(str(file))]
    return tuple(spans)
