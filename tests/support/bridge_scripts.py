"""What bridges' bots answer, by their own sources; for kinds whose program cannot run in the tests.

Each script names the source of its texts. What happens elsewhere (a code is scanned, somebody at
Discord agrees) is done by the test, through ``Elsewhere``.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.ids import EventId
from tests.support.scripted_bot import Answer, ScriptedBot, Talk, saying, silence

COOKIES = "Enter a JSON object with your cookies, or a cURL command copied from browser devtools."
SCAN = "Scan the QR code using the Google Messages app on your Android phone"
DISCORD_ASKS = "I'm asking permission from the guild administrators to make this bridge."


@dataclass
class Elsewhere:
    """What happens on a telephone or at the other network: one word for whoever waits."""

    happened: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def let(self, word: str) -> None:
        self.happened.put_nowait(word)

    async def wait(self) -> str:
        return await self.happened.get()


@dataclass
class Scripts:
    """Every script, and what happens elsewhere, by the bot's name."""

    phone: Elsewhere = field(default_factory=Elsewhere)
    signal: Elsewhere = field(default_factory=Elsewhere)
    discord: Elsewhere = field(default_factory=Elsewhere)
    guild: Elsewhere = field(default_factory=Elsewhere)
    microsoft: Elsewhere = field(default_factory=Elsewhere)
    pasted: list[str] = field(default_factory=list)

    def all(self) -> Mapping[str, Mapping[str, Answer]]:
        """Return the scripts by the bots' names."""
        return {
            "metabot": self.meta(),
            "gmessagesbot": self.gmessages(),
            "slackbot": self.slack(),
            "slack_bot": appservice_slack(),
            "discordbot": self.mautrix_discord(),
            "discord_bot": self.appservice_discord(),
            "teamsbot": self.teams(),
            "postmoogle": postmoogle(),
            "signalbot": self.mautrix_signal(),
            "oldsignalbot": older_signal(),
            "oldgmessagesbot": older_gmessages(),
            "newtelegrambot": newer("!tg"),
            "newdiscordbot": newer("!discord"),
            "mutebot": {"": silence},
        }

    def meta(self) -> Mapping[str, Answer]:
        """mautrix/go of 2026-08-22, ``bridgev2/commands/login.go``, ``startchat.go``,
        ``managechat.go``; mautrix/meta of 2026-08, ``pkg/connector/login.go``.
        """

        async def pasted(talk: Talk) -> None:
            self.pasted.append(talk.words)
            await talk.bot.me.redact(talk.room, talk.event)
            if "xs" not in talk.words:
                await talk.say("Missing some keys: [xs]")
                return
            await talk.say("Logged in as Alice Example (100012345)")

        return {
            "!fb list-logins": saying("You're not logged in"),
            "!fb login facebook": saying(COOKIES, "Login URL: <https://www.facebook.com/>"),
            "!fb login": saying(
                "Please specify a login flow, e.g. `login facebook`.\n\n"
                "* `facebook` - Login using cookies from facebook.com\n"
                "* `messenger` - Login using cookies from messenger.com\n"
            ),
            "{": pasted,
            "!fb cancel": saying("Login cancelled."),
            "!fb start-chat nobody": saying("Identifier nobody not found"),
            "!fb start-chat": saying(
                "Created chat with `100067890` / Bob: [Bob](https://matrix.to/#/!x)"
            ),
            "!fb logout": saying("Logged out"),
            "!fb bridge taken": saying(
                "That chat is already bridged to [Other](https://matrix.to/#/!y). Use "
                "`--overwrite` to delete the existing room."
            ),
            "!fb bridge": saying("Successfully plumbed this room to `123` on Facebook Messenger"),
            "!fb unbridge": leave,
            "!fb set-relay": saying("This bridge does not allow relay mode"),
        }

    def gmessages(self) -> Mapping[str, Answer]:
        """mautrix/go of 2026-08-22, ``bridgev2/commands/login.go`` (the picture is an edit of the
        first when it is replaced, and redacted at the end); mautrix/gmessages of 2026-08,
        ``pkg/connector/login.go``.
        """
        shown: list[EventId] = []

        async def login(talk: Talk) -> None:
            await talk.say(SCAN)
            shown.append(await talk.picture("https://support.google.com/messages/?p=first#c="))
            word = await self.phone.wait()
            if word == "refresh":
                await talk.replace(shown[-1], "https://support.google.com/messages/?p=second#c=")
                word = await self.phone.wait()
            await talk.bot.me.redact(talk.room, shown[-1])
            if word == "scan":
                await talk.say("Successfully logged in")
            elif word != "cancel":
                await talk.say(f"Login failed: {word}")

        async def cancel(talk: Talk) -> None:
            self.phone.let("cancel")
            await talk.say("Login cancelled.")

        return {
            "!gm list-logins": saying("* `abc-def` (Pixel 9) - `CONNECTED`"),
            "!gm login qr": login,
            "!gm cancel": cancel,
            "!gm start-chat": saying("You're not logged in"),
            "!gm logout": saying("Login `abc` not found"),
        }

    def mautrix_signal(self) -> Mapping[str, Answer]:
        """mautrix/go of 2026-08-22, ``bridgev2/commands``; mautrix/signal of 2026-08,
        ``pkg/connector/login.go``: it has one way, so that none need be named.
        """

        async def login(talk: Talk) -> None:
            await talk.say("Scan the QR code on your Signal app to log in")
            picture = await talk.picture("sgnl://linkdevice?uuid=x&pub_key=y")
            await self.signal.wait()
            await talk.bot.me.redact(talk.room, picture)
            await talk.say("Successfully logged in as +441632960123")

        return {
            "!signal list-logins": saying("You're not logged in"),
            "!signal login": login,
            "!signal start-chat +441632960123": saying(
                "Created chat with `uuid` / Bob: [Bob](https://matrix.to/#/!x)"
            ),
            "!signal start-chat": saying("Identifier +440 not found"),
            "!signal logout": saying("Logged out"),
        }

    def slack(self) -> Mapping[str, Answer]:
        """mautrix/go of 2026-08-22, ``bridgev2/commands``; mautrix/slack of 2026-08,
        ``pkg/connector/login-cookie.go``.
        """

        async def pasted(talk: Talk) -> None:
            self.pasted.append(talk.words)
            await talk.bot.me.redact(talk.room, talk.event)
            await talk.say("Successfully logged into Example as alice@example.org")

        return {
            "!slack list-logins": saying("* `T1-U1` (Example - alice@example.org) - `CONNECTED`"),
            "!slack login token": saying(
                "Enter a JSON object with your auth token and cookie token, or a cURL command "
                "copied from browser devtools.\n\n"
                'For example: `{"auth_token":"xoxc-...","cookie_token":"xoxd-..."}`',
                "Login URL: <https://app.slack.com/client>",
            ),
            "!slack login nonsense": saying(
                "Invalid login flow `nonsense`. Available options:\n\n* `email` - Sign in with "
                "your Slack email address\n* `token` - Log in with an auth token\n"
            ),
            "{": pasted,
            "!slack start-chat": saying(
                "You already have a direct chat with `U2` / Bob at [Bob](https://matrix.to/#/!x)"
            ),
            "!slack bridge": saying("Successfully plumbed this room to `T1-C1` on Slack"),
            "!slack set-relay": saying(
                "Messages sent by users who haven't logged in will now be relayed through Example "
                "([@alice:x](https://matrix.to/#/@alice:x)'s login)"
            ),
            "!slack unset-relay": saying(
                "Stopped relaying messages for users who haven't logged in"
            ),
            "!slack unbridge": saying("You don't have permission to unbridge this portal"),
            "!slack logout": saying("Logged out"),
        }

    def mautrix_discord(self) -> Mapping[str, Answer]:
        """mautrix/discord 0.7.7, ``commands.go``."""

        async def login(talk: Talk) -> None:
            picture = await talk.picture("https://discord.com/ra/a-code")
            word = await self.discord.wait()
            await talk.bot.me.redact(talk.room, picture)
            if word == "scan":
                await talk.say("Successfully logged in as @alice_dc")
            else:
                await talk.say(f"Error logging in: {word}")

        return {
            "!discord ping": saying("You're not logged in"),
            "!discord login-qr": login,
            "!discord cancel": saying("No ongoing command."),
            "!discord guilds bridge 404": saying("Error bridging guild: guild not found"),
            "!discord guilds bridge": saying("Successfully bridged guild"),
            "!discord bridge 404": saying("Channel not found"),
            "!discord bridge": saying("Room successfully bridged"),
            "!discord set-relay --create": saying(
                "Saved webhook Relay (1) as portal relay webhook"
            ),
            "!discord unset-relay": saying("Successfully deleted webhook"),
            "!discord unbridge": leave,
            "!discord logout": saying("Logged out successfully."),
        }

    def appservice_discord(self) -> Mapping[str, Answer]:
        """matrix-appservice-discord 4.0.0, ``src/matrixcommandhandler.ts``, ``provisioner.ts``."""

        async def bridge(talk: Talk) -> None:
            await talk.say(DISCORD_ASKS)
            answers = {
                "approve": "I have bridged this room to your channel",
                "deny": "The bridge has been declined by the Discord guild.",
                "nothing": "Timed out waiting for a response from the Discord owners.",
            }
            await talk.say(answers[await self.guild.wait()])

        return {
            "!discord help": saying("Available Commands:\n - `!discord bridge`"),
            "!discord bridge": bridge,
            "!discord unbridge": saying("This room has been unbridged"),
        }

    def teams(self) -> Mapping[str, Answer]:
        """Element's page on their Teams bridge: ``login`` answers with a link and later says who
        was authenticated, ``joinspace`` adds the team's space. Nothing else is documented.
        """

        async def login(talk: Talk) -> None:
            await talk.say(
                "You must authenticate with MS Teams to continue: "
                "https://login.microsoftonline.com/common/oauth2/authorize?state=secret-state"
            )
            await self.microsoft.wait()
            await talk.say("You are now authenticated as **Alice Example**")

        async def joinspace(talk: Talk) -> None:
            if not self.microsoft.happened.empty():
                self.microsoft.happened.get_nowait()
                await talk.say("You must authenticate with MS Teams to continue: https://x")
                return
            space = await talk.bot.me.create_room(name="Example's team")
            await talk.bot.me.invite(space, talk.sender)

        return {
            "help": saying("login - connect your account", "joinspace - join your team's space"),
            "login": login,
            "joinspace": joinspace,
        }


async def leave(talk: Talk) -> None:
    """Leave the room without a word."""
    await talk.leave()


def appservice_slack() -> Mapping[str, Answer]:
    """matrix-appservice-slack of 2023-10, ``src/rooms/UserAdminRoom.ts`` (a person's chat),
    ``src/AdminCommands.ts`` (its admin room, which alone knows ``link``).
    """
    personal = "help - Shows you this help text\nlogin - Log into a Slack account"
    strange = "Command not understood"
    hidden = "Cannot link - Bot doesn't have visibility on channel. Is it invited on slack?"
    return {
        "help": in_admin_room("list - list the linked rooms", elsewhere=personal),
        "whoami": saying("You are not logged into Slack. You may talk in public rooms only."),
        "login": saying(
            "Follow https://slack.com/oauth/authorize?state=secret-state to connect your account."
        ),
        "logout": saying("You are not logged into any accounts."),
        "link --channel_id C404": in_admin_room(hidden, elsewhere=strange),
        "link": in_admin_room(
            "Room is now ready",
            "Remember to invite the slack bot to the slack channel.",
            elsewhere=strange,
        ),
        "unlink": in_admin_room("Unlinked", elsewhere=strange),
    }


def in_admin_room(*texts: str, elsewhere: str) -> Answer:
    """Return an answer for the bridge's admin room, and another for everywhere else."""

    async def answer(talk: Talk) -> None:
        for text in texts if await is_admin_room(talk.bot, talk) else (elsewhere,):
            await talk.say(text)

    return answer


async def is_admin_room(bot: ScriptedBot, talk: Talk) -> bool:
    """Say whether words were typed in the room that is named like its ``matrix_admin_room``."""
    state = await bot.me.client("GET", f"/rooms/{talk.room}/state")
    names = [each["content"].get("name") for each in state if each["type"] == "m.room.name"]
    return names == ["Slack's admin room"]


OLDER_HELP = "#### Authentication\n**delete-session** - Delete session information"
NO_SUCH_WORDS = "Unknown command, use the `help` command for help."


def older_signal() -> Mapping[str, Answer]:
    """mautrix-signal before v0.7: Element's page on their Signal bridge has its words."""
    return {
        "!signal login": saying(NO_SUCH_WORDS),
        "!signal help": saying(OLDER_HELP),
        "!signal link": linked,
        "!signal pm": saying("Created portal room with Bob"),
        "!signal logout": saying("Logged out successfully"),
    }


def older_gmessages() -> Mapping[str, Answer]:
    """mautrix-gmessages before v0.5: the commands that mautrix's Go bridges shared by then."""
    return {"!gm login": linked, "!gm pm": saying("Created portal room with Bob")}


async def linked(talk: Talk) -> None:
    """Show a code that is scanned at once."""
    picture = await talk.picture("a-code")
    await talk.bot.me.redact(talk.room, picture)
    await talk.say("Successfully logged in as +441632960123")


def newer(prefix: str) -> Mapping[str, Answer]:
    """mautrix/go of 2026-08-22, ``bridgev2/commands``: Telegram from v26.04 on, Discord after 0.7."""
    return {
        f"{prefix} help": saying("#### Authentication\n**list-logins** - List your logins"),
        f"{prefix} login-qr": saying(NO_SUCH_WORDS),
        f"{prefix} login qr": linked,
        f"{prefix} start-chat": saying("Created chat with Carol: [Carol](https://matrix.to/#/!x)"),
    }


def postmoogle() -> Mapping[str, Answer]:
    """Postmoogle of 2026-07, ``internal/bot/command.go``, ``command_owner.go``."""
    return {
        "!pm help": saying("The following commands are supported and accessible to you:\n\n"),
        "!pm mailbox taken": saying("Mailbox `taken` (taken@example.org) already taken, kupo"),
        "!pm mailbox forbidden": saying("not allowed to do that, kupo"),
        "!pm mailbox": saying("mailbox of this room set to `info@example.org`"),
        "!pm stop": saying("mailbox has been disabled"),
    }
