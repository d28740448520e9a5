"""How a command is typed: one line with made-up arguments that reads as people would write it."""

from adminbot.engine.command import Command, Parameter

_BY_KIND = {
    "address": "#welcome:example.org",
    "user": "@alice:example.org",
    "room": "#lobby:example.org",
    "rooms": "#lobby:example.org",
    "event": "$KZgW…",
    "number": "50",
    "duration": "7d",
    "date": "“tomorrow 9:00”",
    "size": "20M",
    "text": "as agreed on Monday",
    "word": "word",
    "secret": "…",
    "yes|no": "yes",
}
_BY_NAME = {
    "domain": "example.org",
    "server": "example.org",
    "servers": "example.org",
    "who": "@alice:example.org",
    "key": "kick",
    "quota": "3/month",
    "feature": "msc3881",
    "recipient": "age1…",
    "order": "b",
    "provider": "oidc-keycloak",
    "identity": "alice",
    "what": "alice@example.org",
    "widget": "jitsi",
    "email": "alice@example.org",
    "address": "alice@example.org",
    "report": "e12",
    "code": "AB3D",
    "name": "alice",
    "title": "Lobby",
    "mxc": "mxc://example.org/abcdef",
    "command": "“user list”",
    "reason": "“as agreed on Monday”",
    "url": "https://example.org",
    "entity": "spam.example",
    "file": "mxc://example.org/abcdef",
    "files": "mxc://example.org/abcdef",
    "guild": "1098765432",
    "message": "“This room is closed.”",
    "month": "2026-10",
    "old_key": "ed25519:a_abcd",
    "remote": "-1001234567890",
    "repo": "https://github.com/example/project",
    "type": "m.room.topic",
    "version": "12",
}
# Where the same name means something else: by the command's first word.
_BY_GROUP = {
    ("appservice", "name"): "telegram",
    ("autoreply", "words"): "“opening hours”",
    ("bridge", "name"): "telegram",
    ("bridge", "number"): "500",
    ("bridge", "words"): "bridgev2",
    ("fed", "name"): "example",
    ("room", "name"): "lobby",
    ("webhook", "name"): "alerts",
}


def example(command: Command, *, room: str | None = None) -> str:
    """Return a line that runs the command, without any prefix.

    With ``room`` it names the room it is about, as in a direct chat.
    """
    words = [command.name]
    for one in command.parameters:
        if one is command.about_a_room and not one.option:
            words += [] if room is None else [room]
        elif one.required:
            shown = _shown(command, one)
            words += [one.spelling, shown] if one.option else [shown]
    if len(words) == 1 and room is None:
        first = next((one for one in command.parameters if not one.option and not one.room), None)
        option = next((one for one in command.parameters if one.option), None)
        if first is not None:
            words.append(_shown(command, first))
        elif option is not None:
            words += (
                [option.spelling] if option.flag else [option.spelling, _shown(command, option)]
            )
    return " ".join(words)


def _shown(command: Command, one: Parameter) -> str:
    plain = _BY_KIND.get(one.kind.name)
    if plain is None:  # a choice: its values are its name
        return one.kind.name.partition("|")[0]
    if one.kind.name == "word":
        name = one.name.removesuffix("_")
        return _BY_GROUP.get((command.words[0], name)) or _BY_NAME.get(name, plain)
    return plain
