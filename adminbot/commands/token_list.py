"""Registration tokens as they are: the list, one with its link and picture, the figures."""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Block,
    Code,
    Facts,
    Mono,
    Pill,
    Span,
    Spans,
    Table,
    answer,
    csv_file,
    facts,
    lately,
    say,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.paging import page_of, paged
from adminbot.engine.people import ms_of
from adminbot.engine.qr import qr_code
from adminbot.engine.step import OwnReader
from adminbot.engine.supply import Settings
from adminbot.engine.values import FIRST_PAGE, NO_CSV, Csv, Page
from adminbot.own.arrivals import Arrival, Arrivals
from adminbot.own.tokens import TokenNote, TokenNotes, digest_of
from common.config.secret import Secret
from common.errors import TransientError, UserError
from common.homeserver.errors import NotAllowedError, RefusedError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.registration_tokens import (
    ListRegistrationTokens,
    RegistrationToken,
    masked,
)
from common.homeserver.synapse.registrations import IsTokenValid
from common.i18n import Msg, n, t

SHORTEST_BEGINNING = 3
MOST_CAME = 20
REGISTRATION_ON = Mono("enable_registration: true, registration_requires_token: true")
"""What homeserver.yaml must say for a link with a token to lead anywhere."""
_COLUMNS = (
    "token",
    "state",
    "uses_allowed",
    "pending",
    "completed",
    "expires_ms",
    "creator",
    "for",
)

State = Literal["valid", "expired", "used", "off"]


@command("token list", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def token_list(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    *,
    state: State | None = None,
    page: Page = FIRST_PAGE,
    csv: Csv = NO_CSV,
) -> Answer:
    """List the registration tokens, by their beginnings; the file has them whole.

    Args:
        state: only those that are valid, expired, used (up) or off
    """
    notes = await own.read(TokenNotes())
    now_ms = ms_of(caller.now)
    found = [
        one
        for one in await admin.read(ListRegistrationTokens())
        if state in {None, state_of(one, now_ms)}
    ]
    in_all = n("{count} token in all.", "{count} tokens in all.", len(found))
    if csv:
        rows = (_csv_row(one, notes, now_ms) for one in found)
        return Answer(
            answer(in_all).blocks,
            private=answer(in_all).with_file(csv_file("tokens.csv", _COLUMNS, rows)),
        )
    if not found:
        return answer(t("There is no such token."))
    words = _words()
    shown: list[tuple[Span, ...]] = []
    for one in page_of(found, page):
        note = notes.get(digest_of(one.token))
        shown.append(
            (
                Mono(masked(one.token)),
                words[state_of(one, now_ms)],
                _uses(one),
                lately(one.expiry_time, caller.now) or t("never"),
                Pill(note.creator) if note else "",
                Mono(note.note) if note and note.note else "",
            )
        )
    columns = (t("Token"), t("State"), t("Used"), t("Expires"), t("Made by"), t("For"))
    return answer(Table(columns, tuple(shown)), paged(in_all, len(found), page))


@command("token show", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def token_show(
    admin: AdminReader, own: OwnReader, caller: Caller, settings: Settings, token: Secret
) -> Answer:
    """Show one token with its link and QR code, to you alone.

    Args:
        token: the token or its beginning, as “token list” shows it
    """
    found = await one_token(admin, token)
    digest = digest_of(found.token)
    note = (await own.read(TokenNotes())).get(digest)
    came = await own.read(Arrivals(MOST_CAME, digest=digest))
    card = facts(
        [
            (t("Token"), Mono(masked(found.token))),
            (t("State"), _words()[state_of(found, ms_of(caller.now))]),
            (t("Used"), _uses(found)),
            (t("Begun"), str(found.pending) if found.pending else None),
            (t("Expires"), when(found.expiry_time, caller.now) or t("never")),
            (t("Made by"), Pill(note.creator) if note else None),
            (t("For"), Mono(note.note) if note and note.note else None),
            (t("Account"), Pill(note.for_user) if note and note.for_user else None),
            (t("Rooms"), pills(note.rooms) if note else None),
            (t("Came with it"), pills([each.user for each in came])),
        ]
    )
    return Answer((card,), private=invitation(settings, found.token))


@command("token stats", who=Role.SERVER_ADMIN, needs=Permission.VIEW)
async def token_stats(admin: AdminReader, own: OwnReader, caller: Caller) -> Answer:
    """Show how many tokens there are, and how many accounts were made with them."""
    found = await admin.read(ListRegistrationTokens())
    notes = await own.read(TokenNotes())
    now_ms = ms_of(caller.now)
    states = [state_of(one, now_ms) for one in found]
    words = _words()
    card = facts(
        [
            (t("Tokens"), str(len(found))),
            *((words[each], str(states.count(each))) for each in words if each in states),
            (t("Accounts made"), str(sum(one.completed for one in found))),
            (t("Registrations begun"), str(sum(one.pending for one in found))),
        ]
    )
    rows = _by_creator(found, notes)
    blocks: list[Block] = [card]
    if rows:
        blocks.append(Table((t("Made by"), t("Tokens"), t("Accounts made")), rows))
    if came := await own.read(Arrivals(MOST_CAME)):
        lines = tuple(_line(each, notes, caller) for each in came if each.digest is not None)
        if lines:
            blocks += [
                say(t("Who came with which, the newest first:")),
                Table((t("User"), t("Token of"), t("For"), t("Created")), lines),
            ]
    return answer(*blocks)


async def one_token(admin: AdminReader, token: Secret) -> RegistrationToken:
    """Return the token that is meant, by the whole of it or a beginning that only it has."""
    word = token.reveal().rstrip("…")
    found = await admin.read(ListRegistrationTokens())
    for one in found:
        if one.token == word:
            return one
    alike = [one for one in found if one.token.startswith(word)]
    if len(word) >= SHORTEST_BEGINNING and len(alike) == 1:
        return alike[0]
    if alike:
        raise UserError(t("Several tokens begin like that; write more of it."))
    raise UserError(t("There is no such token."))


def state_of(one: RegistrationToken, now_ms: int) -> State:
    """Return what a token is good for at a moment."""
    if one.expiry_time is not None and one.expiry_time < now_ms:
        return "off" if one.uses_allowed == 0 else "expired"
    # Synapse 1.163 takes 0 for any number: without an end such a token is as good as any.
    if one.uses_allowed and one.completed >= one.uses_allowed:
        return "used"
    return "valid"


async def registration_must_be_on(reader: AdminReader, otherwise: Msg) -> None:
    """Refuse, by this sentence, to make a token where it would lead nowhere."""
    try:
        await reader.read(IsTokenValid("steward"))
    except NotAllowedError:
        raise UserError(otherwise) from None
    except (TransientError, RefusedError):
        return  # asked too often, or not told; the link says it then


def nobody_may_register() -> Msg:
    """Say so to who can change it."""
    return t(
        "Nobody may register on this homeserver, so a token would lead nowhere. Set {settings} "
        "in homeserver.yaml, and restart it.",
        settings=REGISTRATION_ON,
    )


def invitation(settings: Settings, token: str) -> Answer:
    """Return what is handed on: the token, where it is used, and a picture to scan."""
    template = settings.config.adminbot.registration_link
    server = settings.config.homeserver.server_name
    link = template.replace("{token}", quote(token, safe=""))
    with_token = "{token}" in template
    how = (
        t("Open the link; the token is in it. The picture holds the same link.")
        if with_token
        else t(
            "Open the link, choose the server {server}, and write the token when it is asked for. "
            "The picture holds the token.",
            server=Mono(server),
        )
    )
    card: Facts = facts([(t("Server"), Mono(server)), (t("Link"), link)])
    return answer(card, say(t("Token:")), Code(token), how).with_file(
        qr_code("token.png", link if with_token else token)
    )


def pills(named: Sequence[str]) -> Spans | None:
    """Return people or rooms in a row; ``None`` where there are none."""
    spans: list[Span] = []
    for each in named:
        spans += [", ", Pill(each)] if spans else [Pill(each)]
    return tuple(spans) or None


def _line(each: Arrival, notes: Mapping[str, TokenNote], caller: Caller) -> tuple[Span, ...]:
    note = notes.get(each.digest or "")
    made = lately(each.created_ms, caller.now) or ""
    if note is None:
        return Pill(each.user), t("(not made through me)"), "", made
    return Pill(each.user), Pill(note.creator), Mono(note.note or note.for_user or ""), made


def _by_creator(
    found: Sequence[RegistrationToken], notes: Mapping[str, TokenNote]
) -> tuple[tuple[Span, ...], ...]:
    by: dict[str, list[int]] = {}
    for one in found:
        note = notes.get(digest_of(one.token))
        if note is not None:
            by.setdefault(note.creator, []).append(one.completed)
    return tuple(
        (Pill(creator), str(len(counts)), str(sum(counts)))
        for creator, counts in sorted(by.items())
    )


def _words() -> dict[State, str]:
    return {
        "valid": t("valid"),
        "used": t("used up"),
        "expired": t("expired"),
        "off": t("off"),
    }


def _uses(one: RegistrationToken) -> str:
    if one.uses_allowed is None:
        return t("{count} of any number", count=one.completed)
    return t("{count} of {most}", count=one.completed, most=one.uses_allowed)


def _csv_row(
    one: RegistrationToken, notes: Mapping[str, TokenNote], now_ms: int
) -> tuple[object, ...]:
    note = notes.get(digest_of(one.token))
    return (
        one.token,
        state_of(one, now_ms),
        one.uses_allowed,
        one.pending,
        one.completed,
        one.expiry_time,
        note.creator if note else None,
        note.note if note else None,
    )
