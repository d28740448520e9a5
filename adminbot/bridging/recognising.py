"""Finding out which version's words a bridge knows, by the help text of its own bot."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adminbot.bridges.hearing import Done
from adminbot.bridges.instance import Bridge
from adminbot.bridges.kind import Command, Step, Vocabulary
from adminbot.bridges.phrase import parse_phrase
from adminbot.bridging.accounts import Account
from adminbot.bridging.registry import Registry
from adminbot.bridging.speaking import Conversation
from common.errors import StewardError
from common.telemetry.log import Log

HELP_SECONDS = 15

log = Log("adminbot.bridges")


@dataclass(frozen=True)
class Recognising:
    """Asks for ``help``; what is found is kept, so that it is asked once."""

    registry: Registry
    carry_out: Callable[[Conversation], Awaitable[Done]]

    async def other_words(self, bridge: Bridge, account: Account, key: str) -> Bridge | None:
        """Return a bridge with the words it knows, ``None`` if no others are recognised.

        What the operator has set is not doubted.
        """
        vocabularies = bridge.kind.vocabularies
        if len(vocabularies) == 1 or bridge.settings.vocabulary is not None:
            return None
        signs = tuple(sign for each in vocabularies for sign in each.recognised_by)
        asking = Step(say="help", done=signs, ends="gathered", timeout_seconds=HELP_SECONDS)
        talk = Conversation(
            bridge=bridge,
            command=Command(steps=(asking,), by="person"),
            account=account,
            arguments={},
            room=None,
            key=f"{key}-help",
            tell=_nothing,
        )
        try:
            text = (await self.carry_out(talk)).text
        except StewardError as error:
            log.info("a bridge's words are not recognised", bridge=bridge.name, reason=error)
            return None
        found = recognised(vocabularies, text)
        if found is None or found.name == bridge.vocabulary.name:
            return None
        async with self.registry.database.transaction() as connection:
            await connection.execute(
                "UPDATE bridge SET vocabulary = $1 WHERE name = $2", found.name, bridge.name
            )
        await self.registry.refresh()
        log.info("a bridge is spoken to in other words", bridge=bridge.name, words=found.name)
        return self.registry.bridges.get(bridge.name)


def recognised(vocabularies: tuple[Vocabulary, ...], text: str) -> Vocabulary | None:
    """Return the one vocabulary that a bot's help text has the signs of, if it is one alone."""
    known = [
        each
        for each in vocabularies
        if any(parse_phrase(sign).found_in(text) is not None for sign in each.recognised_by)
    ]
    return known[0] if len(known) == 1 else None


async def _nothing(_text: str) -> None:
    """Nobody is told of this."""
