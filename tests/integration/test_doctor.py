"""``steward doctor`` against a real Synapse: each thing that can be wrong is told by its name."""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.checks import Finding
from common.clock import SystemClock
from common.config.load import load, load_text
from common.config.registration import render_registration, user_ids
from common.config.schema import Config
from common.demo.process import LOOPBACK
from common.demo.servers import Synapse, SynapseSpec, free_port, free_ports
from common.doctor.report import examine, main
from tests.support.clients import RawClient
from tests.support.postgres import Postgres
from tests.support.world import World

SERVER_NAME = "doctor.localhost"

Answer = Callable[[web.Request], Awaitable[web.Response]]


class ShiftedClock(SystemClock):
    def __init__(self, seconds: float) -> None:
        self._shift = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift  # noqa: TID251  # this is a clock


@dataclass(frozen=True)
class Patient:
    """A homeserver with three registrations, and the settings that belong to each."""

    synapse: Synapse
    directory: Path
    ports: dict[str, int]

    def config(self, name: str = "good", **settings: dict[str, object]) -> Config:
        return load_text(self.text(name, **settings), "config.yaml")

    def text(self, name: str = "good", **settings: dict[str, object]) -> str:
        usual: dict[str, dict[str, object]] = {
            "homeserver": {"url": self.synapse.url, "server_name": SERVER_NAME},
            "appservice": {
                "id": name,
                "as_token": f"as-of-{name}",
                "hs_token": f"hs-of-{name}",
                "listen_port": self.ports[name],
                "sender_localpart": f"_{name}",
            },
            "adminbot": {"localpart": f"{name}-admin"},
            "auditbot": {
                "localpart": f"{name}-audit",
                "destination": f"file://{self.directory}/archive",
            },
            "encryption": {"pickle_key": "a key"},
            "database": {"url": f"sqlite:///{self.directory}/{name}.db"},
        }
        sections = {**settings, **usual}
        return json.dumps({key: usual.get(key, {}) | settings.get(key, {}) for key in sections})

    async def register(self, config: Config) -> None:
        async with aiohttp.ClientSession() as session:
            for user in user_ids(config)[1:]:
                await session.post(
                    f"{self.synapse.url}/_matrix/client/v3/register",
                    json={
                        "type": "m.login.application_service",
                        "username": user[1:].partition(":")[0],
                        "inhibit_login": True,
                    },
                    headers={"Authorization": f"Bearer {config.appservice.as_token.reveal()}"},
                )


@pytest.fixture(scope="module")
async def patient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Patient]:
    directory = tmp_path_factory.mktemp("doctor")
    names = ("good", "odd", "mute")
    port, *ports = free_ports(1 + len(names))
    files = [directory / f"{name}.yaml" for name in names]
    spec = SynapseSpec(
        directory=directory / "synapse",
        server_name=SERVER_NAME,
        port=port,
        registrations=files,
        extra={"server_notices": None},
    )
    made = Patient(Synapse(spec), directory, dict(zip(names, ports, strict=True)))
    for name, file in zip(names, files, strict=True):
        text = render_registration(made.config(name))
        if name == "odd":
            text = text.replace("io.element.msc4190: true", "io.element.msc4190: false")
            text = text.replace("audit", "somebody")
        if name == "mute":
            text = re.sub("url: .*", "url: null", text)
        file.write_text(text)
    async with made.synapse:
        yield made


async def findings(config: Config, clock: SystemClock | None = None) -> list[Finding]:
    return await examine(config, None, clock or SystemClock())


def one(found: list[Finding], words: str) -> Finding:
    """Return the one finding with these words."""
    matching = [finding for finding in found if words in finding.what]
    assert len(matching) == 1, [finding.what for finding in found]
    return matching[0]


def broken(found: list[Finding]) -> list[str]:
    return [finding.what for finding in found if finding.ok is False]


async def test_before_the_first_start_nothing_has_to_be_mended(patient: Patient) -> None:
    found = await findings(patient.config())

    assert broken(found) == []
    assert one(found, "It is Synapse 1.").ok
    assert one(found, "Both clocks agree").ok
    assert one(found, "accepts the as_token, as @_good:").ok
    assert one(found, "MSC4190").ok
    assert one(found, "It reaches Steward, with the right hs_token").ok
    assert one(found, "first start fills it").ok
    assert one(found, "can be written, read and deleted").ok
    missing = one(found, "Not registered yet: @good-admin:")
    assert (missing.ok, "steward run" in missing.mend) == (None, True)
    assert one(found, "module cannot be seen").ok is None
    assert not (patient.directory / "good.db").exists(), "looking changes nothing"


async def test_the_admin_right_is_missed_and_the_printed_call_gives_it(patient: Patient) -> None:
    config = patient.config()
    await patient.register(config)

    missing = one(await findings(config), "is not a server admin")
    assert missing.ok is False
    call = re.fullmatch(
        r".*curl -X PUT -H 'Authorization: Bearer ADMIN_ACCESS_TOKEN' "
        r"-H 'Content-Type: application/json' -d '(.*)' '(.*)'",
        missing.mend,
    )
    assert call is not None
    async with await RawClient.register(patient.synapse, admin=True) as admin:
        path = call[2].removeprefix(patient.synapse.url)
        await admin.request("PUT", path, json.loads(call[1]))

    found = await findings(config)
    assert broken(found) == []
    assert one(found, "@good-admin:doctor.localhost is a server admin").ok
    assert one(found, "Registered: @good-admin:").ok
    off = one(found, "sends no server notices")
    assert (off.ok, "set server_notices" in off.mend) == (None, True)


async def test_with_the_shared_secret_the_admin_right_only_waits(patient: Patient) -> None:
    config = patient.config("mute", homeserver={"registration_shared_secret": "a secret"})
    await patient.register(config)

    waiting = one(await findings(config), "is not a server admin yet")

    assert waiting.ok is None
    assert "next start" in waiting.mend


async def test_a_wrong_as_token_is_told(patient: Patient) -> None:
    found = await findings(patient.config(appservice={"as_token": "wrong"}))

    assert broken(found) == ["The homeserver does not know appservice.as_token."]
    assert one(found, "were not checked").ok is None


async def test_a_wrong_hs_token_is_told(patient: Patient) -> None:
    found = await findings(patient.config(appservice={"hs_token": "wrong"}))

    assert "another hs_token" in " ".join(broken(found))


async def test_a_wrong_hs_token_is_told_where_steward_itself_listens(patient: Patient) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"errcode": "M_FORBIDDEN"}, status=403)

    async with listening(patient, refuse):
        found = await findings(patient.config())

    assert "another hs_token" in " ".join(broken(found))


async def test_another_program_on_the_port_is_told(patient: Patient) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=404)

    async with listening(patient, answer):
        found = await findings(patient.config())

    assert "is not Steward (HTTP 404)" in " ".join(broken(found))


class listening:  # noqa: N801  # reads as a statement
    """A program that has the good registration's port."""

    def __init__(self, patient: Patient, handler: Answer) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        self._runner = web.AppRunner(application, shutdown_timeout=1)
        self._port = patient.ports["good"]

    async def __aenter__(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def test_a_way_that_leads_nowhere_is_told(patient: Patient) -> None:
    found = await findings(patient.config(appservice={"listen_port": free_port()}))

    assert "cannot connect to Steward" in " ".join(broken(found))


async def test_an_address_that_is_not_this_machines_is_told(patient: Patient) -> None:
    found = await findings(patient.config(appservice={"listen_host": "192.0.2.1"}))

    assert one(found, "192.0.2.1").ok is False


async def test_another_id_is_told(patient: Patient) -> None:
    found = await findings(patient.config(appservice={"id": "else"}))

    assert "under another id than “else”" in " ".join(broken(found))


async def test_a_registration_without_a_url_is_told(patient: Patient) -> None:
    found = await findings(patient.config("mute"))

    assert "url is null" in " ".join(broken(found))


async def test_a_registration_that_is_out_of_date_is_told(patient: Patient) -> None:
    config = patient.config("odd")
    await patient.register(config)

    said = " ".join(broken(await findings(config)))

    assert "lacks “io.element.msc4190: true”" in said
    assert "may not act as @odd-audit:doctor.localhost" in said


async def test_another_server_name_and_sender_are_told(patient: Patient) -> None:
    elsewhere = await findings(patient.config(homeserver={"server_name": "example.org"}))
    renamed = await findings(patient.config(appservice={"sender_localpart": "_x"}))

    assert "calls itself doctor.localhost" in " ".join(broken(elsewhere))
    assert "sender is @_good:doctor.localhost" in " ".join(broken(renamed))


async def test_a_homeserver_that_is_away_is_told_and_the_rest_checked(patient: Patient) -> None:
    url = f"http://{LOOPBACK}:{free_port()}"
    found = await findings(patient.config(homeserver={"url": url}))

    assert broken(found) == [f"The homeserver does not answer at {url}: Connection refused."]
    assert one(found, "The archive at").ok
    assert one(found, "The database").ok


async def test_something_else_at_the_homeservers_address_is_told(patient: Patient) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="<html>", status=502)

    async with listening(patient, answer):
        url = f"http://{LOOPBACK}:{patient.ports['good']}"
        found = await findings(patient.config(homeserver={"url": url}))

    assert "what answers there is no homeserver (502)" in " ".join(broken(found))


async def test_a_homeserver_that_says_nothing_is_told_in_time(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.doctor.api.TIMEOUT_SECONDS", 0.3)
    released = asyncio.Event()

    async def wait(_request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with listening(patient, wait):
        url = f"http://{LOOPBACK}:{patient.ports['good']}"
        found = await findings(patient.config(homeserver={"url": url}))
        released.set()

    assert "no answer within 0.3 s" in " ".join(broken(found))


@pytest.mark.parametrize(
    ("seconds", "ok", "words"),
    [(0, True, "agree"), (-20, None, "behind"), (20, None, "ahead"), (200, False, "ahead of")],
)
async def test_a_clock_that_is_wrong_is_told(
    patient: Patient, seconds: float, ok: bool | None, words: str
) -> None:
    found = await findings(patient.config(), ShiftedClock(seconds))

    assert one(found, "clock").ok is ok
    assert words in one(found, "clock").what


async def test_an_archive_that_cannot_be_written_is_told(patient: Patient) -> None:
    (patient.directory / "a-file").write_text("")
    destination = f"file://{patient.directory}/a-file/archive"
    config = patient.config(auditbot={"destination": destination})

    found = await findings(config)

    assert f"The archive at {destination}" in " ".join(broken(found))


async def test_no_archive_is_noted_and_no_bot_means_no_check(patient: Patient) -> None:
    unset = await findings(patient.config(auditbot={"destination": None}))
    disabled = await findings(patient.config(auditbot={"enabled": False}))

    assert one(unset, "exports nothing").ok is None
    assert not [finding for finding in disabled if "archive" in finding.what]


async def test_a_database_of_a_newer_version_is_told(patient: Patient, tmp_path: Path) -> None:
    file = tmp_path / "newer.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE steward_version (version INTEGER)")
        connection.execute("INSERT INTO steward_version VALUES (999)")
    connection.close()
    file.chmod(0o644)

    found = await findings(patient.config(database={"url": f"sqlite:///{file}"}))

    assert "used by a newer Steward: its schema is 999" in " ".join(broken(found))
    assert "chmod o-rwx" in one(found, "can get at the database file").mend


async def test_a_file_that_is_no_database_is_told(patient: Patient, tmp_path: Path) -> None:
    file = tmp_path / "text.db"
    file.write_text("certainly not a database, whatever its name may be" * 50)

    found = await findings(patient.config(database={"url": f"sqlite:///{file}"}))

    assert one(found, "The database cannot be used").ok is False


async def test_postgresql_is_looked_at(patient: Patient, postgres: Postgres) -> None:
    database = await postgres.create_database()

    there = await findings(patient.config(database={"url": database.url}))
    away = await findings(
        patient.config(database={"url": f"postgres://u:hunter2@{LOOPBACK}:{free_port()}/d"})
    )

    assert one(there, "The database (PostgreSQL) can be used").ok
    refused = one(away, "The database cannot be used")
    assert refused.ok is False
    assert "hunter2" not in refused.what


async def test_open_files_and_another_registration_are_told(
    patient: Patient, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(patient.text())
    path.chmod(0o644)
    config = load(path, {})
    (tmp_path / "registration.yaml").write_text(
        render_registration(config).replace("as-of-good", "as-of-another")
    )
    (tmp_path / "registration.yaml").chmod(0o600)

    found = await examine(config, path, SystemClock())

    assert "chmod o-rwx" in one(found, "configuration file").mend
    differing = one(found, "differs from the configuration")
    assert differing.what.endswith("in as_token.")
    assert "as-of" not in differing.what + differing.mend


async def test_a_running_steward_is_well(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    config = load(world.steward.config_path, {})

    found = await examine(config, world.steward.config_path, SystemClock())

    assert broken(found) == []
    assert one(found, "is a server admin").ok
    assert one(found, "It reaches Steward").ok
    assert one(found, "is up to date").ok
    assert one(found, "belongs to this configuration").ok


async def test_the_exit_status_says_whether_to_mend(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    good = await asyncio.to_thread(main, patient.config(), None)
    bad = await asyncio.to_thread(main, patient.config(appservice={"as_token": "wrong"}), None)

    assert (good, bad) == (0, 1)
    assert "Nothing has to be mended." in capsys.readouterr().out
