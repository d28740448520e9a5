"""Sentences that know how they were made."""

from babel.messages.catalog import Catalog

from common.i18n import SOURCE, Language, Msg, languages, n, parts, t, translated

GERMAN = {
    "Put {one} behind {other}.": ("Hinter {other} kommt {one}.",),
    "{count} room": ("{count} Raum", "{count} Räume"),
}


def look_up(message: Msg) -> str:
    found = GERMAN.get(message.template, (message.template,))
    return found[0 if message.number == 1 else 1]


LANGUAGE = Language("xx", look_up)


def test_a_message_is_its_english_sentence() -> None:
    message = t("Put {one} behind {other}.", one="a", other=n("{count} room", "{count} rooms", 2))

    assert message == "Put a behind 2 rooms."
    assert translated(message, SOURCE) == message


def test_a_message_is_said_in_another_language_with_what_is_in_it() -> None:
    message = t("Put {one} behind {other}.", one="a", other=n("{count} room", "{count} rooms", 2))

    assert translated(message, LANGUAGE) == "Hinter 2 Räume kommt a."


def test_a_value_is_never_taken_for_a_template() -> None:
    assert translated(t("Put {one} behind {other}.", one="{other}", other="%s"), LANGUAGE) == (
        "Hinter %s kommt {other}."
    )


def test_values_can_be_told_from_words() -> None:
    marked = object()

    assert marked in list(parts(t("Put {one} behind {other}.", one=marked, other=1), LANGUAGE))


def test_an_error_keeps_its_message_translatable() -> None:
    error = ValueError(n("{count} room", "{count} rooms", 1))

    assert translated(str(error), LANGUAGE) == "1 Raum"


def test_there_is_german() -> None:
    assert next(iter(languages())) == "en"
    assert "de" in languages()
    assert Catalog(locale="de").num_plurals == 2
