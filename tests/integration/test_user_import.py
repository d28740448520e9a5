"""Files of people, imported into a real homeserver."""

import csv
import io
import secrets

from common.homeserver.errors import NotFoundError
from common.homeserver.synapse.users import GetUser
from common.ids import UserId
from tests.integration.test_user_commands import Desk, desk

__all__ = ["desk"]


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


async def test_people_are_made_changed_and_closed_by_a_file(desk: Desk) -> None:
    root, mark, server = desk.root, secrets.token_hex(3), desk.world.synapse.server_name
    old = await desk.world.synapse.register(f"old-{mark}")
    gone = await desk.world.synapse.register(f"gone-{mark}")
    # As a spreadsheet in a German office writes it.
    text = (
        "User;Display Name;E-Mail;Admin;Deactivated\r\n"
        f"new-{mark};Größe „A“;new-{mark}@example.org;ja;\r\n"
        f"{old.user_id};Old One;;;nein\r\n"
        f"gone-{mark};;;;ja\r\n"
        f"never-{mark};;;;ja\r\n"
    )
    data = b"\xef\xbb\xbf" + text.encode()

    dry = await root.send_file("people.csv", data, caption="user import --dry-run")
    shown = str((await root.answer(dry))["body"])
    new = UserId(f"@new-{mark}:{server}")
    try:
        await desk.account(new)
        raise AssertionError("a dry run made an account")
    except NotFoundError:
        pass
    file = await root.send_file("people.csv", data)
    relation = {"m.in_reply_to": {"event_id": file}}
    asked = await root.type("user import", **{"m.relates_to": relation})
    question = await root.confirm(asked, typed="import 3")
    said = str((await root.answer(asked, 1))["body"])

    assert "create 1, change 1, close 1" in shown
    assert "Größe „A“" in shown
    assert "there is no such account" in question
    made = await desk.account(new)
    assert (made.displayname, made.admin) == ("Größe „A“", True)
    assert [one.address for one in made.threepids] == [f"new-{mark}@example.org"]
    assert (await desk.api.read(GetUser(old.user_id))).displayname == "Old One"
    assert (await desk.account(gone.user_id)).deactivated
    assert "The import is done." in said
    (differences, _) = await root.files("differences.csv", count=2)
    assert {row["act"] for row in rows_of(differences)} >= {"create", "change", "close"}
    (result,) = await root.files("result.csv")
    assert [row["outcome"] for row in rows_of(result)] == ["done"] * 3
    (secret,) = await root.files("passwords.csv")
    ((user, password),) = [tuple(row.values()) for row in rows_of(secret)]
    assert user == f"'{new}"
    assert (await desk.world.synapse.log_in(f"new-{mark}", password)).user_id == new
    assert password not in result.decode()
    again = await root.send_file("people.csv", data, caption="user import")
    assert "nothing to do" in str((await root.answer(again))["body"])


async def test_a_file_with_mistakes_does_nothing_and_names_the_lines(desk: Desk) -> None:
    root, mark = desk.root, secrets.token_hex(3)
    data = (
        "user,admin,email\n"
        f"fine-{mark},no,\n"
        "not good!,,\n"
        f"fine-{mark},,\n"
        f"other-{mark},perhaps,\n"
        f"third-{mark},,nonsense\n"
    ).encode()

    asked = await root.send_file("people.csv", data, caption="user import")
    wrong = str((await root.answer(asked))["body"])
    protected = await root.send_file(
        "bots.csv", b"user,deactivated\nadminbot,yes\n_steward,yes\n", caption="user import"
    )

    assert [f"Line {number}" in wrong for number in range(1, 7)] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    refused = str((await root.answer(protected))["body"])
    assert refused.count("own accounts") == 2
    server = desk.world.synapse.server_name
    assert "no account" in await root.ask(f"user show @fine-{mark}:{server}")
    assert "Send the file" in await root.ask("user import")


async def test_a_command_takes_its_people_from_a_file(desk: Desk) -> None:
    root, mark = desk.root, secrets.token_hex(3)
    people = [
        (await desk.world.synapse.register(f"p{number}-{mark}")).user_id for number in range(3)
    ]

    asked = await root.send_file(
        "people.csv", "\n".join(people).encode(), caption="user suspend --no-tell"
    )
    await root.confirm(asked)
    await root.answer(asked, 1)

    assert all([(await desk.account(user)).suspended for user in people])
