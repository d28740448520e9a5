"""adminbot's words: all of them are translated, and what is said shows it.

The answers of a day in a small world stand in ``tests/golden/answers``, one file a language.
Write them anew with ``pytest tests/unit/test_german.py --write-golden``, and read the difference.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from html import unescape
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.catalog import Catalog
from synapse.api.room_versions import RoomVersions

from adminbot import telling
from adminbot.engine.answer import Answer, Mono, Pill, say
from adminbot.engine.codec import CodecError
from adminbot.engine.confirm import question
from adminbot.engine.kept import kept, told
from adminbot.engine.outcome import Fate, Finished, Taken, tell
from adminbot.engine.render import render
from adminbot.texts import catalogues, template, troubles, updated, written
from common.config.secret import Secret
from common.homeserver.port import Json
from common.i18n import Language, Msg, languages, n, t, translated
from common.ids import RoomId
from tests.unit.adminbot import server_talk
from tests.unit.adminbot.situations import CREATOR, Situation
from tests.unit.adminbot.talk_through import REFUSAL, Day, Given, a_day, day, much_more
from tests.unit.adminbot.test_lent_plans import LINES, run
from tests.unit.adminbot.world import BOB, ME

GOLDEN = Path(__file__).parents[1] / "golden" / "answers"

_Begin = Callable[[Path, str], AbstractAsyncContextManager[Day]]
_DAYS: dict[str, tuple[_Begin, tuple[Given, ...]]] = {
    "": (a_day, day()),
    "server-": (server_talk.a_day, server_talk.day()),
}
"""By the beginning of the file's name: a world, and what is asked in it."""

# Sentences that are the same in German; everything else that is equal was forgotten.
THE_SAME = frozenset(
    {
        "Admin", "Admins", "App", "Bot", "Bots", "Bridge", "Code", "Delegation", "ID", "Link",
        "Name", "Person", "SHA-256", "Server", "Status", "Steward", "Synapse", "Token", "Token:",
        "Tokens", "Update", "Version", "{bridge}: {verb} in {room}",
        "{user} in {room}: {command} – {outcome}",
    }
)  # fmt: skip


def test_every_sentence_is_translated_with_its_values() -> None:
    source = template()

    for path, known in catalogues():
        before = path.read_bytes()

        assert written(updated(known, source)) == before, "`make generate` brings it up to date"
        assert list(troubles(known)) == []


def test_no_sentence_was_left_in_english() -> None:
    for _, known in catalogues():
        same = {text for text, german in _pairs(known) if text == german and _letters(text)}

        assert same <= THE_SAME


def test_german_quotes_and_speaks_to_people_as_germans_do() -> None:
    for text, german in _german():
        assert "“" not in german.replace("“", "", german.count("„")), german
        assert german.count("„") == german.count("“"), german
        assert not re.search(r"\b(du|dich|dir|dein\w*|euch|eure\w*)\b", german, re.IGNORECASE), (
            german
        )
        assert german[-1:] == text[-1:] or text[-1:] not in ".:?… " or german[-1:] in ".:?…“", (
            german
        )


def _pairs(known: Catalog) -> Iterator[tuple[str, str]]:
    for message in known:
        if message.id:
            yield from zip(_texts(message.id), _texts(message.string), strict=True)


def _texts(one: object) -> tuple[str, ...]:
    return tuple(map(str, one)) if isinstance(one, tuple | list) else (str(one),)


def _german() -> Iterator[tuple[str, str]]:
    for path, known in catalogues():
        if path.stem == "de":
            yield from _pairs(known)


def _letters(template: str) -> bool:
    words = "".join(text for text, *_ in Formatter().parse(template))
    return any(letter.isalpha() for letter in words)


# --- What is said shows it: in a language that marks our words ---


def _marking(known: frozenset[str]) -> Language:
    """Return a language in which every word of a catalogued sentence stands between « and »."""

    def look_up(message: Msg) -> str:
        if message.template not in known:
            return message.template
        chosen = message.template if message.number == 1 else message.plural or message.template
        parts = []
        for words, name, _, _ in Formatter().parse(chosen):
            parts.append(f"«{words}»".replace("{", "{{").replace("}", "}}") if words else "")
            parts.append("" if name is None else f"{{{name}}}")
        return "".join(parts)

    return Language("xx", look_up)


def _known_templates() -> frozenset[str]:
    return frozenset(_texts(message.id)[0] for message in template() if message.id)


# What stands for itself, whatever the language.
_ITSELF = re.compile(
    r"<li><code>[\w-]+</code>: [^«<]*</li>|<pre>.*?</pre>|<code>.*?</code>|<a .*?</a>|<[^>]*>"  # what others wrote, and markup
    r"|«[^»]*(?:»|…)"  # our words
    r"|\b[0-9]{4}-[0-9]{2}(?:-[0-9]{2})?\b|\b[a-z]+(?:[._][a-z]+)+\b|[@#!$][\w.=/+-]+(?::[\w.-]+)?|[^\s«»]+@[^\s«»]+|(?:https?|mxc)://[^\s«]+|/\S+"  # identifiers, addresses, paths
    r"|\[?--?[\w|<>…-]+\]?|<[\w|…-]+>|\[[\w…<>|-]+\]"  # words of a command's usage
    r"|[0-9][0-9.]*\s?(?:[KMG]i)?B\b|UTC|[0-9.]+",
    re.DOTALL,
)
_TYPED = re.compile(
    r"“»[^«»]*«|--»[\w-]+«|»[A-Z2-7]{4}«|The »[\w-]+«"
    r"|(?:second word: |goes on with |none of )»[^«»]*«(?: or »[^«»]*«)?"
)
"""What we quote of somebody's words, and what can be typed: options, arguments, codes."""
DICE = "abcdefghijklmnopqrstuvwx"
_OF_OTHERS = frozenset(
    {"SQLite", "msc", "Lobby", "ABC", "oidc", REFUSAL, *languages(), "English", "Deutsch", DICE}
)


def _untranslated(html: str) -> list[str]:
    said = unescape(html)
    left = _ITSELF.sub(" ", _TYPED.sub("“", said))
    words = re.findall(r"[A-Z]_\w+|[^\W\d_]{2,}", left)
    return [word for word in words if word not in _OF_OTHERS]


async def test_everything_that_is_said_can_be_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marking = _marking(_known_templates())
    monkeypatch.setattr(telling, "languages", lambda: {**languages(), "xx": marking})
    wrong: dict[str, list[str]] = {}

    for number, (begun, asked) in enumerate(_DAYS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with begun(folder, "xx") as world:
            for one in (*asked, *(much_more() if begun is a_day else ())):
                for _, content in await world.give(one):
                    found = _untranslated(str(content["formatted_body"]))
                    if found:
                        wrong[one.text] = found

    assert wrong == {}


_HALF = "half done"


def _questions() -> Iterator[tuple[str, Answer]]:
    """Yield what is asked before each plan about a room, and what is said if half of it fails."""
    levels = {"users": {BOB: 0, ME: 100}, "events": {}}
    for line in LINES:
        plan, _ = run(line, Situation(RoomVersions.V12, levels), CREATOR)
        if plan is not None:
            yield f"{line}: asked", question(plan, "ABCD")
            fates = [Fate.DONE, Fate.FAILED, Fate.UNSURE, Fate.WAITING]
            taken = tuple(
                Taken(number, step, fate, t("The homeserver does not answer."))
                for number, (step, fate) in enumerate(zip(plan.steps * 4, fates, strict=False))
            )
            half = Finished(plan.summary, taken, bulk=plan.bulk is not None)
            yield f"{line}: {_HALF}", tell(half)
            yield f"{line}: done", tell(Finished(plan.summary, taken[:1], plan.result))


def test_every_question_about_a_room_can_be_translated() -> None:
    marking = _marking(_known_templates())

    for line, asked in _questions():
        html = render(asked, language=marking).html
        assert not _untranslated(html), (line, html)


# --- To the letter ---


@pytest.mark.parametrize("code", sorted(languages()))
def test_the_questions_about_rooms_are_as_they_were(
    pytestconfig: pytest.Config, code: str
) -> None:
    said = [
        f"### {line}\n{render(asked, language=languages()[code]).body}\n"
        for line, asked in _questions()
        if not line.endswith(_HALF) or line.startswith(("kick", "lock"))  # one is like the other
    ]

    _compare(pytestconfig, f"rooms-{code}.txt", "\n".join(said))


@pytest.mark.parametrize("language", sorted(languages()))
@pytest.mark.parametrize("name", ["", "server-"])
async def test_the_answers_of_a_day_are_as_they_were(
    tmp_path: Path, pytestconfig: pytest.Config, language: str, name: str
) -> None:
    lines: list[str] = []
    begun, asked = _DAYS[name]
    async with begun(tmp_path, language) as world:
        for one in asked:
            lines += _told(one, await world.give(one))
    text = "\n".join(lines)

    _compare(pytestconfig, f"{name}{language}.txt", text)


def _compare(pytestconfig: pytest.Config, name: str, text: str) -> None:
    plain = _CODE.sub("CODE", "\n".join(line.rstrip() for line in text.splitlines()))
    if pytestconfig.getoption("--write-golden"):
        (GOLDEN / name).write_text(plain + "\n", "utf-8")

    assert plain + "\n" == (GOLDEN / name).read_text("utf-8")


_CODE = re.compile(r"\b[A-Z2-7]{4}\b")
"""Of a question: it hangs on what exactly would be done."""


def _told(one: Given, said: list[tuple[RoomId, Json]]) -> Iterator[str]:
    yield f"### {one.by} in {one.room}: {one.text}"
    for room, content in said:
        yield from ([f"in {room}:"] if room != one.room else [])
        yield str(content["body"])
    yield ""


# --- Sentences that wait in the database ---


def test_a_kept_sentence_is_still_translated() -> None:
    inner = n("{count} room", "{count} rooms", 2)
    sentence = t("{what}: {count} room", what=inner, count=Mono("2"))

    again = told(kept(sentence))

    assert again == str(sentence)
    assert translated(again, languages()["de"]).startswith("2 Räume: ")


def test_a_kept_sentence_keeps_no_secret_and_text_of_others_stays_text() -> None:
    assert "hunter2" not in kept(t("{step}: {why}", step="x", why=Secret("hunter2")))
    assert told(kept("\x1f{}")) == "{}"
    assert told("plain") == "plain"


def test_a_person_in_a_kept_sentence_is_still_their_link() -> None:
    sentence = told(kept(t("{user} is not of this server.", user=Pill("@a:example.org"))))

    assert "matrix.to/#/@a:example.org" in render(Answer((say(sentence),))).html


def test_what_is_broken_in_the_database_is_said_to_be_so() -> None:
    with pytest.raises(CodecError):
        told('\x1f{"$": "Nothing", "v": {}}')
