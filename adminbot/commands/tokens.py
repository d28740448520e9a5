"""Making and changing registration tokens: with one, people make an account by themselves."""

from datetime import timedelta

from adminbot.commands.room_look import powers_of
from adminbot.commands.rooms import room_or_error
from adminbot.commands.token_list import (
    invitation,
    nobody_may_register,
    one_token,
    pills,
    registration_must_be_on,
    state_of,
)
from adminbot.engine.actor import Caller, Role
from adminbot.engine.answer import (
    Answer,
    Mono,
    answer,
    csv_file,
    facts,
    when,
)
from adminbot.engine.command import command
from adminbot.engine.outcome import Fate, Finished, report, tell
from adminbot.engine.people import ms_of
from adminbot.engine.plan import Bulk, Plan
from adminbot.engine.server_steps import ExpireToken
from adminbot.engine.step import OwnReader, Step
from adminbot.engine.supply import Dice, Settings
from adminbot.engine.values import NO_CSV, NO_ROOMS, Csv, Rooms
from adminbot.own.token_ends import EndOf, RememberEnd
from adminbot.own.tokens import (
    ANY_NUMBER,
    ForgetToken,
    RememberToken,
    TokenChanged,
    TokenNotes,
    digest_of,
)
from common.config.secret import Secret
from common.errors import UserError
from common.homeserver.port import AdminReader, Permission
from common.homeserver.synapse.registration_tokens import (
    CreateRegistrationToken,
    DeleteRegistrationToken,
    ListRegistrationTokens,
    RegistrationToken,
    UpdateRegistrationToken,
    masked,
)
from common.i18n import n, t
from common.ids import UserId

MOST_IN_BATCH = 500
MOST_ROOMS = 20
LONGEST = 64
_WEEK = timedelta(days=7)
_LENGTH = 16


@command(
    "token create",
    who=Role.SERVER_ADMIN,
    needs=Permission.SUPPORT,
    also=(Permission.MANAGE,),
)
async def token_create(
    admin: AdminReader,
    caller: Caller,
    dice: Dice,
    settings: Settings,
    *,
    uses: int = 1,
    unlimited: bool = False,
    expires: timedelta = _WEEK,
    never: bool = False,
    length: int = _LENGTH,
    token: Secret | None = None,
    for_: str = "",
    rooms: Rooms = NO_ROOMS,
) -> Plan:
    """Make a registration token, with a link and a QR code; you are told before it expires.

    Args:
        uses: how many accounts can be made with it
        unlimited: as many accounts as people like
        expires: after which time it is void, e.g. 12h or 30d
        never: it does not expire
        length: how many signs it has
        token: a token of your own: up to 64 letters, digits and . _ ~ -
        for_: whom it is for, for your own memory
        rooms: who makes an account with it is joined to these rooms and spaces
    """
    if uses < 1:
        raise UserError(t("A token has to allow one account at least; --unlimited is any number."))
    if not 8 <= length <= LONGEST:  # noqa: PLR2004  # 48 bits; guesses are rate-limited
        raise UserError(t("A token has 8 to {most} signs.", most=LONGEST))
    made = token or Secret(dice.token(length))
    if token is not None:
        _check_own(token)
    await registration_must_be_on(admin, nobody_may_register())
    await _rooms_to_join(admin, settings, rooms)
    expires_ms = None if never else ms_of(caller.now + expires)
    remember = RememberToken(
        token=made,
        creator=caller.actor.user,
        note=for_,
        made_ms=ms_of(caller.now),
        rooms=rooms,
    )
    create = CreateRegistrationToken(
        token=made, uses_allowed=None if unlimited else uses, expires_ms=expires_ms
    )
    steps: tuple[Step, ...] = (create, remember)
    public = facts(
        [
            (t("Token"), Mono(masked(made.reveal()))),
            (t("Accounts"), t("any number") if unlimited else str(uses)),
            (t("Expires"), when(expires_ms, caller.now) or t("never")),
            (t("For"), Mono(for_) if for_ else None),
            (t("Rooms"), pills(rooms)),
        ]
    )
    result = Answer((public,), private=invitation(settings, made.reveal()))
    return Plan(summary=t("Make a registration token"), steps=steps, result=result)


@command("token batch", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def token_batch(
    admin: AdminReader,
    caller: Caller,
    dice: Dice,
    number: int,
    *,
    uses: int = 1,
    expires: timedelta = _WEEK,
    never: bool = False,
    for_: str = "",
    csv: Csv = NO_CSV,
) -> Plan:
    """Make many registration tokens at once; you alone get them, as a file.

    Args:
        number: how many
        uses: how many accounts can be made with each
        expires: after which time they are void, e.g. 12h or 30d
        never: they do not expire
        for_: whom they are for, for your own memory
        csv: changes nothing: they come as a file in any case
    """
    del csv
    if not 1 <= number <= MOST_IN_BATCH:
        raise UserError(t("From 1 to {most} can be made at once.", most=MOST_IN_BATCH))
    if uses < 1:
        raise UserError(t("A token has to allow one account at least."))
    await registration_must_be_on(admin, nobody_may_register())
    expires_ms = None if never else ms_of(caller.now + expires)
    steps: list[Step] = []
    for _ in range(number):
        made = Secret(dice.token(_LENGTH))
        steps += [
            CreateRegistrationToken(token=made, uses_allowed=uses, expires_ms=expires_ms),
            RememberToken(
                token=made, creator=caller.actor.user, note=for_, made_ms=ms_of(caller.now)
            ),
        ]
    return Plan(
        summary=n("Make {count} registration token", "Make {count} registration tokens", number),
        steps=tuple(steps),
        bulk=Bulk(at_once=4, chain=2),
        report="token batch",
        ask=True,
    )


@report("token batch")
def batched(finished: Finished) -> Answer:
    """Say how it went, and the tokens to who asked alone."""
    made = [
        each.step.token.reveal()
        for each in finished.with_fate(Fate.DONE, Fate.UNSURE)
        if isinstance(each.step, CreateRegistrationToken) and each.step.token is not None
    ]
    said = tell(finished)
    if not made:
        return said
    note = n("{count} token is in the file.", "{count} tokens are in the file.", len(made))
    file = csv_file("tokens.csv", ("token",), ((one,) for one in made))
    return Answer(said.blocks, said.files, private=answer(note).with_file(file))


@command("token update", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def token_update(
    admin: AdminReader,
    caller: Caller,
    token: Secret,
    *,
    uses: int | None = None,
    unlimited: bool = False,
    expires: timedelta | None = None,
    never: bool = False,
) -> Plan:
    """Change how many accounts a token is good for, or until when; the rest stays.

    Args:
        token: the token or its beginning, as “token list” shows it
        uses: how many accounts in all
        unlimited: as many accounts as people like
        expires: after which time from now it is void
        never: it does not expire
    """
    found = await one_token(admin, token)
    if uses is None and expires is None and not unlimited and not never:
        raise UserError(t("Say what to change: --uses, --unlimited, --expires or --never."))
    if uses is not None and uses < 1:
        raise UserError(t("A token has to allow one account at least; “token disable” is none."))
    if state_of(found, ms_of(caller.now)) == "off" and uses is None and not unlimited:
        # It allows 0 accounts, which is any number to Synapse, so only its end closes it.
        raise UserError(
            t(
                "The token is off. Say by --uses how many accounts it is to allow in all, and it is "
                "on again."
            )
        )
    allowed = None if unlimited else found.uses_allowed if uses is None else uses
    expires_ms = found.expiry_time if expires is None else ms_of(caller.now + expires)
    return _changing(
        caller, found, allowed, None if never else expires_ms, t("Change a registration token")
    )


@command("token disable", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def token_disable(admin: AdminReader, own: OwnReader, caller: Caller, token: Secret) -> Plan:
    """Switch a token off; “token enable” switches it on again.

    Args:
        token: the token or its beginning, as “token list” shows it
    """
    found = await one_token(admin, token)
    if state_of(found, ms_of(caller.now)) == "off":
        raise UserError(t("The token is off already."))
    # One that an earlier version marked as off, and Synapse takes from anybody, keeps its note.
    note = (await own.read(TokenNotes())).get(digest_of(found.token))
    known = note.uses if note is not None and found.uses_allowed == 0 else found.uses_allowed
    changed = TokenChanged(
        token=Secret(found.token),
        creator=caller.actor.user,
        uses=ANY_NUMBER if known is None else known,
        at_ms=ms_of(caller.now),
    )
    return Plan(
        summary=t("Switch a registration token off"),
        steps=(
            changed,
            RememberEnd(digest_of(found.token), found.expiry_time),
            ExpireToken(Secret(found.token), masked(found.token), off=True),
        ),
        result=answer(
            t("The token {token} is off: nobody can use it.", token=Mono(masked(found.token)))
        ),
    )


@command("token enable", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def token_enable(
    admin: AdminReader,
    own: OwnReader,
    caller: Caller,
    token: Secret,
    *,
    uses: int | None = None,
) -> Plan:
    """Switch a token on again, as it was before.

    Args:
        token: the token or its beginning, as “token list” shows it
        uses: how many accounts in all, if not as before
    """
    found = await one_token(admin, token)
    if found.uses_allowed != 0:
        raise UserError(t("The token is not off."))
    note = (await own.read(TokenNotes())).get(digest_of(found.token))
    before = note.uses if note is not None and note.uses is not None else None
    if uses is None and before is None:
        raise UserError(t("I do not know how many accounts it allowed; say so by --uses."))
    wanted = before if uses is None else uses
    allowed = None if wanted == ANY_NUMBER else wanted
    end = await own.read(EndOf(digest_of(found.token)))
    until_ms = found.expiry_time if end is None else end.until_ms
    if until_ms is not None and until_ms < ms_of(caller.now):
        raise UserError(
            t("It has expired meanwhile; “token update” with --uses and --expires prolongs it.")
        )
    return _changing(caller, found, allowed, until_ms, t("Switch a token on again"))


@command("token delete", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def token_delete(admin: AdminReader, token: Secret) -> Plan:
    """Delete a token.

    Args:
        token: the token or its beginning, as “token list” shows it
    """
    found = await one_token(admin, token)
    return Plan(
        summary=t("Delete the registration token {token}", token=masked(found.token)),
        steps=(DeleteRegistrationToken(found.token), ForgetToken(Secret(found.token))),
    )


@command("token prune", who=Role.SERVER_ADMIN, needs=Permission.SUPPORT)
async def token_prune(admin: AdminReader, caller: Caller) -> Plan:
    """Delete every token that is expired or used up; those that are switched off stay."""
    now_ms = ms_of(caller.now)
    found = [
        one
        for one in await admin.read(ListRegistrationTokens(valid=False))
        if state_of(one, now_ms) in {"expired", "used"}
    ]
    if not found:
        raise UserError(t("No token is expired or used up."))
    steps: list[Step] = []
    for one in found:
        steps += [DeleteRegistrationToken(one.token), ForgetToken(Secret(one.token))]
    return Plan(
        summary=n(
            "Delete {count} registration token that is expired or used up",
            "Delete {count} registration tokens that are expired or used up",
            len(found),
        ),
        steps=tuple(steps),
        bulk=Bulk(chain=2),
    )


def _changing(
    caller: Caller,
    found: RegistrationToken,
    uses: int | None,
    expires_ms: int | None,
    summary: str,
    *,
    before: int | None = None,
) -> Plan:
    if (
        expires_ms is not None
        and expires_ms != found.expiry_time
        and expires_ms < ms_of(caller.now)
    ):
        raise UserError(t("That moment has passed."))
    changed = TokenChanged(
        token=Secret(found.token), creator=caller.actor.user, uses=before, at_ms=ms_of(caller.now)
    )
    step = UpdateRegistrationToken(token=found.token, uses_allowed=uses, expires_ms=expires_ms)
    said = facts(
        [
            (t("Token"), Mono(masked(found.token))),
            (t("Accounts"), t("any number") if uses is None else str(uses)),
            (t("Expires"), when(expires_ms, caller.now) or t("never")),
        ]
    )
    return Plan(summary=summary, steps=(step, changed), result=answer(said))


async def _rooms_to_join(admin: AdminReader, settings: Settings, rooms: Rooms) -> None:
    """Raise a ``UserError`` unless adminbot can bring people into each room."""
    if len(rooms) > MOST_ROOMS:
        raise UserError(t("A token can have {most} rooms at most.", most=MOST_ROOMS))
    config = settings.config
    me = UserId(f"@{config.adminbot.localpart}:{config.homeserver.server_name}")
    for room in rooms:
        await room_or_error(admin, room)
        powers = await powers_of(admin, room)
        if me not in powers.members or not powers.of(me).may("invite"):
            raise UserError(
                t("I cannot bring people into {room}; “room join-bots” may help.", room=room)
            )


def _check_own(token: Secret) -> None:
    text = token.reveal()
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")
    if not text or len(text) > LONGEST or not set(text) <= allowed:
        raise UserError(
            t("A token is 1 to {most} letters, digits or any of . _ ~ -", most=LONGEST)
        )
