"""Which files a message shares, whatever it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.mxc import Mxc, parse_mxc, shared_files


def test_a_file_is_taken_apart() -> None:
    assert parse_mxc("mxc://example.org:8448/aB_-.~9") == Mxc("example.org:8448", "aB_-.~9")
    assert str(Mxc("[::1]", "x")) == "mxc://[::1]/x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mxc://example.org",
        "mxc://example.org/",
        "mxc:///x",
        "mxc://example.org/../x",
        "mxc://example.org/a/b",
        "mxc://example.org/a?b",
        "mxc://exa mple.org/a",
        "https://example.org/a",
        "mxc://example.org/a\n",
        7,
        None,
        {},
    ],
)
def test_what_names_no_file(text: object) -> None:
    assert parse_mxc(text) is None


def test_a_message_shares_its_file_and_its_thumbnails() -> None:
    plain = {"url": "mxc://a/1", "info": {"thumbnail_url": "mxc://a/2"}}
    encrypted = {
        "file": {"url": "mxc://a/3"},
        "info": {"thumbnail_file": {"url": "mxc://a/4"}, "thumbnail_url": "mxc://a/3"},
    }

    assert [one.media_id for one in shared_files(plain)] == ["1", "2"]
    assert [one.media_id for one in shared_files(encrypted)] == ["3", "4"]
    assert shared_files({"body": "mxc://a/5"}) == ()


json_values = st.recursive(
    st.none() | st.integers() | st.text() | st.just("mxc://a/b"),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["url", "file", "info"]), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["url", "file", "info", "thumbnail_file"]), json_values))
def test_no_content_is_too_strange(content: dict[str, object]) -> None:
    assert len(shared_files(content)) <= 1
