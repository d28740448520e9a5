"""Files of people, as spreadsheets and vandals write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminbot.engine.answer import csv_file
from adminbot.engine.people_file import MOST_PEOPLE, people_in
from adminbot.engine.userlist import users_of
from common.errors import UserError

SERVER = "example.org"


@pytest.mark.parametrize(
    "data",
    [
        b"user,displayname,admin\nalice,Alice \xc3\x84,yes\n",
        b"\xef\xbb\xbfUser;Display Name;Admin\r\nalice;Alice \xc3\x84;ja\r\n",
        "user\tname\tserver admin\nalice\tAlice Ä\tx\n".encode("utf-16"),
        b'user,displayname,admin\n"@alice:example.org","Alice \xc3\x84",TRUE\n\n,,\n',
        b"state,user,admin,displayname\nactive,'@alice:example.org,yes,Alice \xc3\x84\n",
    ],
    ids=["plain", "german spreadsheet", "utf-16 with tabs", "quoted", "our own list"],
)
def test_the_same_person_in_many_spellings(data: bytes) -> None:
    (one,) = people_in(data, SERVER)

    assert (one.user, one.display_name, one.admin) == ("@alice:example.org", "Alice Ä", True)
    assert (one.emails, one.deactivated, one.password) == (None, None, None)


def test_all_that_a_line_may_say() -> None:
    data = (
        b"user,email,type,password,deactivated,sso\n"
        b"bob,B@Example.org b2@example.org,bot,correct horse,no,oidc-x:b oidc-y:c:d\n"
    )

    (one,) = people_in(data, SERVER)

    assert one.emails == ("b@example.org", "b2@example.org")
    assert one.type == "bot"
    assert one.password is not None
    assert one.password.reveal() == "correct horse"
    assert one.deactivated is False
    assert one.identities == (("oidc-x", "b"), ("oidc-y", "c:d"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "needs a line of column names"),
        (b"user\n", "needs a line of column names"),
        (b"name\nAlice\n", "no column called “user”"),
        (b"user,tipe\na,b\n", "Line 1: No column is called “tipe”; did you mean “type”?"),
        (b"user,email,mail\na,b,c\n", "there twice"),
        (b"user\nalice\n@alice:example.org\n", "Line 3: @alice:example.org stands in line 2 too."),
        (b"user\nno good\n", "Line 2: “no good” is no user ID."),
        (b"user,admin\na,maybe\n", "Line 2: “maybe” is neither yes nor no."),
        (b"user,email\na,b@@c\n", "Line 2: “b@@c” is no e-mail address."),
        (b"user,type\na,king\n", "Line 2: “king” is no type"),
        (b"user,password\na,short\n", "Line 2: The password is too short"),
        (b"user,sso\na,word\n", "Line 2: “word” is no identity"),
        (b'user,name\na,"open\n', "Line 2"),
        (b"user\n\xff\xfe\xfd\n", "not UTF-8"),
        (b"user\n\xe4ndy\n", "not UTF-8 (line 2)"),
        (b"user\na\x00b\n", "no text"),
        (b"user\n" + b"a" * 2_000 + b"\n", "Line 2: a cell is too long."),
        (b"user," + b"," * 60 + b"\n", "Line 1: there are too many columns."),
        (
            b"user\n" + b"".join(b"p%d\n" % number for number in range(MOST_PEOPLE + 1)),
            "too many lines",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(data: bytes, said: str) -> None:
    with pytest.raises(UserError) as caught:
        people_in(data, SERVER)

    assert said in str(caught.value)


def test_at_most_so_many_mistakes_are_listed() -> None:
    data = b"user,admin\n" + b"".join(b"p%d,perhaps\n" % number for number in range(100))

    with pytest.raises(UserError) as caught:
        people_in(data, SERVER)

    assert len(str(caught.value).splitlines()) == 22
    assert "80 more lines" in str(caught.value)


@given(
    st.binary(max_size=400) | st.text(max_size=200).map(lambda text: f"user,name\n{text}".encode())
)
def test_any_file_is_read_or_refused(data: bytes) -> None:
    for read in (people_in, users_of):
        try:
            read(data, SERVER)
        except UserError as error:
            assert str(error)  # noqa: PT017  # either is right


names = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40
)


@given(st.lists(names, min_size=1, max_size=20))
def test_what_we_write_we_read(displaynames: list[str]) -> None:
    rows = [(f"@p{number}:{SERVER}", name) for number, name in enumerate(displaynames)]

    people = people_in(csv_file("x", ("user", "displayname"), rows).data, SERVER)

    assert [one.user for one in people] == [user for user, _ in rows]
    spelt = [(one.display_name or "").lstrip("'") for one in people]
    assert spelt == [name.lstrip("'") for name in displaynames]


def test_users_are_taken_from_the_right_column() -> None:
    assert users_of(b"alice\n@bob:example.org\n", SERVER) == (
        "@alice:example.org",
        "@bob:example.org",
    )
    assert users_of(b"when;User\n2026;carol\n2027;carol\n", SERVER) == ("@carol:example.org",)
    with pytest.raises(UserError, match="Line 2"):
        users_of(b"user\nnot one\n", SERVER)
