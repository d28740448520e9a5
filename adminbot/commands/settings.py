"""What people choose for themselves: how adminbot speaks to them."""

from collections.abc import Callable
from typing import Literal

from adminbot.commands.digest import told
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import Answer, Mono, answer, facts, say
from adminbot.engine.command import command
from adminbot.engine.plan import Plan
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.own.people import LanguageOf, SetFormatting, SetReplies, Style, StyleOf
from adminbot.own.schedules import DigestOf
from common.i18n import Msg, t

Replies = Literal["usual", "thread", "reply"]
Formatting = Literal["full", "plain"]


@command("settings", who=Role.ANYONE)
async def settings(own: OwnReader, caller: Caller, settings: Settings) -> Answer:
    """Show how I speak to you, and how to change it."""
    user = caller.actor.user
    style = await own.read(StyleOf(user))
    language = await own.read(LanguageOf(user)) or settings.config.adminbot.language
    digest = await own.read(DigestOf(user))
    return answer(
        facts(
            [
                (t("Language"), Mono(language)),
                (t("Answers"), _answers(style)),
                (t("Formatting"), t("none") if style.plain else t("tables and links")),
                (t("Digest"), told(digest, caller.now) if caller.actor.server_admin else None),
            ]
        ),
        say(
            t(
                "To change it: {language}, {replies}, {formatting}.",
                language=Mono("language"),
                replies=Mono("settings replies"),
                formatting=Mono("settings formatting"),
            )
        ),
    )


@command("settings replies", who=Role.ANYONE)
async def settings_replies(caller: Caller, style: Replies) -> Plan:
    """Choose whether I answer you in a thread at your command, or by a reply to it.

    Args:
        style: thread, reply, or usual: in a thread among others, by a reply in a direct chat
    """
    return Plan(
        summary=t("Answer you otherwise"),
        steps=(SetReplies(caller.actor.user, style),),
        result=answer(_FROM_NOW_ON[style]()),
    )


def _answers(style: Style) -> Msg:
    if style.threads is None:
        return t("in a thread among others, by a reply in a direct chat")
    return t("in a thread") if style.threads else t("by a reply")


_FROM_NOW_ON: dict[Replies, Callable[[], Msg]] = {
    "usual": lambda: t("From now on I answer you as is usual."),
    "thread": lambda: t("From now on I answer you in threads."),
    "reply": lambda: t("From now on I answer you by replies."),
}


@command("settings formatting", who=Role.ANYONE)
async def settings_formatting(caller: Caller, style: Formatting) -> Plan:
    """Choose whether my answers to you have tables and links, or are plain text.

    Args:
        style: full or plain
    """
    return Plan(
        summary=t("Answer you otherwise"),
        steps=(SetFormatting(caller.actor.user, style),),
        result=answer(
            t("From now on my answers to you have tables and links.")
            if style == "full"
            else t("From now on my answers to you are plain text.")
        ),
    )
