"""Steps that are no call and no row: adminbot's own words to rooms and people."""

from collections.abc import Mapping

from adminbot.engine.step import SayInRoom, TellAdmins, TellPerson
from adminbot.execution import Perform
from adminbot.telling import Telling


def performers(telling: Telling) -> Mapping[type, Perform]:
    """Return who carries out which kind of step."""

    async def say_in_room(step: SayInRoom, key: str) -> None:
        language = await telling.language_of(None)
        await telling.to_room(step.room, step.said, key=key, language=language)

    async def tell_person(step: TellPerson, key: str) -> None:
        await telling.to_person(step.user, step.said, key=key)

    async def tell_admins(step: TellAdmins, key: str) -> None:
        await telling.to_admins(step.said, key=key)

    return {
        SayInRoom: say_in_room,
        TellPerson: tell_person,
        TellAdmins: tell_admins,
    }
