"""Who was called otherwise before is found by either name."""

from tests.unit.auditbot.reader.test_commands import Officer, officer

__all__ = ["officer"]


def test_a_former_name_is_found_and_told(officer: Officer) -> None:
    here = {"room_id": "!lobby:example.org"}
    officer.maker.message("one", "@zoe:example.org", **here, sender_name="Smith", room_name="Old")
    officer.maker.segment()
    officer.maker.message("two", "@zoe:example.org", **here, sender_name="Jones", room_name="New")
    officer.maker.segment()
    officer.maker.manifest()
    for name in ("smith", "jones"):
        assert officer.types("search", "--person", name) == 0
        assert officer.told.startswith("2 messages.") or "\n2 messages." in officer.told
    for name in ("Old", "New"):
        assert officer.types("search", "--room", name, "two") == 0
        assert "@zoe:example.org: two" in officer.said
    assert officer.types("people", "smith") == 0
    assert officer.said.startswith("@zoe:example.org “Jones” (also “Smith”): 2 events")
    assert officer.types("rooms", "Old") == 0
    assert officer.said.startswith("!lobby:example.org “New” (also “Old”): 2 events")
    assert officer.types("people", "bob") == 0
    assert "also" not in officer.said
