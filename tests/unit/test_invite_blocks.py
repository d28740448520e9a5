"""Whom the Synapse module refuses: the same that “match” says, and never by an accident."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from synapse.module_api import NOT_SPAM
from synapse.module_api.errors import Codes

from adminbot.engine.entity import Entity, Kind, blocks, matches, parse_entity, shut_out
from common.errors import UserError
from common.homeserver.client_server import invite_blocks
from common.synapse_invite_blocks import DATA_TYPE, PATH, Blocks, InviteBlocks, offer

BOTS = ("@adminbot:x", "@auditbot:x")
names = st.text(alphabet="ab.*?[]!-^:@8", max_size=12)
users = st.builds("@{}:{}".format, st.text(alphabet="ab.*[", max_size=6), names)


class Api:
    """What the module uses of Synapse's, with account data by account."""

    def __init__(self, data: Mapping[str, object] | Exception) -> None:
        self._data = data
        self.account_data_manager = self

    async def get_global(self, user: str, type_: str) -> object:
        assert type_ == DATA_TYPE
        if isinstance(self._data, Exception):
            raise self._data
        return self._data.get(user)


async def asked(data: Mapping[str, object] | Exception, inviter: str, invitee: str) -> Any:
    # Made without its parent's, which wants a whole Synapse.
    made = object.__new__(InviteBlocks)
    made._api = Api(data)  # type: ignore[assignment]  # a stand-in
    made._bots = BOTS
    made._held = (frozenset(), Blocks(()))
    return await made.user_may_invite(inviter, invitee, "!room")


def held(*entries: object) -> dict[str, object]:
    return {BOTS[0]: {"blocks": {key: {} for key in entries}}}


@given(st.lists(names, max_size=5), users)
@example(["*.b"], "@a:a.b")
@example(["[a]"], "@a:a")
def test_the_module_and_match_agree(entries: list[str], user: str) -> None:
    entity = Entity(Kind.USER, user)

    refused = Blocks(entries).refuse(user)

    assert refused == any(blocks(entry, entity) for entry in entries if entry)


@pytest.mark.parametrize(
    ("entry", "inviter", "refused"),
    [
        ("@spam:evil.org", "@spam:evil.org", True),
        ("@spam:evil.org", "@spam2:evil.org", False),
        ("evil.org", "@any:evil.org", True),
        ("evil.org", "@any:EVIL.org", True),
        ("evil.org", "@evil.org:good.org", False),
        ("evil.org", "@any:not-evil.org", False),
        ("*.evil.org", "@any:a.b.evil.org", True),
        ("*.evil.org", "@any:evil.org", False),
        ("@spam*:*", "@spammer:good.org", True),
        ("[2001:db8::1]", "@any:[2001:db8::1]", True),
        # A server may listen on as many ports as it likes, each another name.
        ("evil.org", "@any:evil.org:8448", True),
        ("*.evil.org", "@any:a.evil.org:1", True),
        ("@spam:evil.org", "@spam:evil.org:8448", True),
        ("[2001:db8::1]", "@any:[2001:db8::1]:8448", True),
        ("evil.org:8448", "@any:evil.org:8448", True),
        ("evil.org:8448", "@any:evil.org", False),
        ("evil.org:8448", "@any:evil.org:8449", False),
    ],
)
async def test_who_is_refused(entry: str, inviter: str, refused: bool) -> None:
    answer = await asked(held(entry), inviter, "@alice:x")

    assert answer is (Codes.FORBIDDEN if refused else NOT_SPAM)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {BOTS[0]: None},
        {BOTS[0]: {}},
        {BOTS[0]: {"blocks": []}},
        {BOTS[0]: {"blocks": {5: {}, None: {}}}},
        RuntimeError("the database is away"),
    ],
)
async def test_whatever_is_wrong_an_invitation_passes(data: Any) -> None:
    assert await asked(data, "@spam:evil.org", "@alice:x") is NOT_SPAM


async def test_the_bots_are_invited_by_anybody_and_invite_whom_they_like() -> None:
    everything = held("*", "@*:*")

    assert await asked(everything, "@spam:evil.org", BOTS[1]) is NOT_SPAM
    assert await asked(everything, BOTS[0], "@alice:x") is NOT_SPAM
    assert await asked(everything, "@spam:evil.org", "@alice:x") is Codes.FORBIDDEN


def test_synapse_starts_whatever_goes_wrong() -> None:
    offer(SimpleNamespace(), BOTS)  # type: ignore[arg-type]  # an older Synapse


def test_both_sides_name_the_same_things() -> None:
    assert invite_blocks.DATA_TYPE == DATA_TYPE
    assert invite_blocks.ListRefusedInviters().to_http().path == PATH


@given(st.text(max_size=300))
def test_any_word_is_an_entity_or_refused(word: str) -> None:
    try:
        entity = parse_entity(word, "x")
    except UserError:
        return
    assert entity.name
    assert not matches("no such thing", entity.name)


@pytest.mark.parametrize(
    ("acl", "server", "out"),
    [
        ({"allow": ["*"]}, "evil.org", False),
        ({"allow": ["*"], "deny": ["evil.org"]}, "evil.org", True),
        ({"allow": ["*"], "deny": ["evil.org"]}, "evil.org:8448", True),
        ({"allow": ["*"], "deny": ["*.evil.org"]}, "evil.org", False),
        ({"allow": []}, "good.org", True),
        ({}, "good.org", True),
        ({"allow": ["*"], "allow_ip_literals": False}, "1.2.3.4:80", True),
        ({"allow": ["*"], "allow_ip_literals": False}, "[2001:db8::1]:80", True),
        ({"allow": ["*"], "deny": "evil.org"}, "evil.org", False),
        ({"allow": ["*"], "deny": [5, None]}, "evil.org", False),
    ],
)
def test_who_is_shut_out_by_an_acl(acl: dict[str, Any], server: str, out: bool) -> None:
    assert shut_out(acl, server) is out
