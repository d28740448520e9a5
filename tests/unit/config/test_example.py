"""The generated files are in step with the schema, complete, and usable once filled in."""

import re

import pytest
from ruamel.yaml import YAML

from common.config.example import render_example
from common.config.generate import generated, main
from common.config.load import load_text
from common.config.options import Keys, Option, schema
from common.config.registration import registration, render_registration
from common.errors import ConfigError

SECRETS: dict[Keys, object] = {
    ("appservice", "as_token"): "a-token",
    ("appservice", "hs_token"): "h-token",
    ("encryption", "pickle_key"): "a-key",
}


def test_the_generated_files_are_in_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_the_example_is_refused_until_its_secrets_are_filled_in() -> None:
    with pytest.raises(ConfigError, match="as_token is empty"):
        load_text(render_example(), "config.example.yaml")


def test_the_filled_example_has_the_defaults() -> None:
    config = load_text(render_example(SECRETS), "config.yaml")

    assert config.rooms.sweep_concurrency == 4


def test_the_example_loads_with_everything_uncommented() -> None:
    filled = render_example(SECRETS)

    uncommented = re.sub(r"(?m)^( *)#(\w+:)", r"\1\2", filled)

    assert uncommented != filled
    assert load_text(uncommented, "config.yaml") == load_text(filled, "config.yaml")
    for option in schema().options():
        assert f"  {option.path[-1]}: " in uncommented


def test_a_given_value_is_written_live() -> None:
    text = render_example(SECRETS | {("appservice", "listen_port"): 1234})

    assert load_text(text, "config.yaml").appservice.listen_port == 1234


@pytest.mark.parametrize("name", ["config.example.yaml", "docs/reference/config.md"])
def test_every_option_is_described_with_its_default_and_unit(name: str) -> None:
    text = " ".join(generated()[name].replace("#", " ").split())

    for option in schema().options():
        assert option.description, option.dotted
        assert option.description in text, option.dotted
        assert option.path[-1] in text
        if option.path[-1].endswith(("_seconds", "_bytes")):
            assert option.unit in {"seconds", "bytes"}, option.dotted


def test_every_default_satisfies_its_own_option() -> None:
    members = [option for option in schema().options() if not option.required]

    assert all(isinstance(option, Option) for option in members)
    load_text(render_example(SECRETS | {o.path: o.default for o in members}), "config.yaml")


def test_the_registration_names_exactly_the_three_accounts() -> None:
    text = render_example(SECRETS).replace('"example.org"', '"ex.ample-1.org:8448"')
    config = load_text(text, "config.yaml")

    users = registration(config)["namespaces"]["users"]  # type: ignore[index]  # JSON as it is written
    patterns = [re.compile(entry["regex"]) for entry in users]
    matched = [
        user
        for user in (
            "@adminbot:ex.ample-1.org:8448",
            "@auditbot:ex.ample-1.org:8448",
            "@_steward:ex.ample-1.org:8448",
            "@adminbot2:ex.ample-1.org:8448",
            "@xadminbot:ex.ample-1.org:8448",
            "@adminbot:ex.ample-1.org:84480",
            "@adminbot:exXample-1.org:8448",
        )
        if any(pattern.search(user) for pattern in patterns)
    ]

    assert len(matched) == 3
    assert all(entry["exclusive"] for entry in users)


def test_the_rendered_registration_is_the_registration() -> None:
    text = render_example(SECRETS | {("appservice", "url"): "http://bots.example.org/a"})
    config = load_text(text, "config.yaml")

    read_back = YAML(typ="safe").load(render_registration(config))

    assert read_back == registration(config)
    assert read_back["url"] == "http://bots.example.org/a"
    assert read_back["io.element.msc4190"] is True
    assert read_back["receive_ephemeral"] is False
    assert read_back["rate_limited"] is False


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:29350"),
        ("0.0.0.0", "http://127.0.0.1:29350"),
        ("::", "http://[::1]:29350"),
        ("::1", "http://[::1]:29350"),
        ("steward.internal", "http://steward.internal:29350"),
    ],
)
def test_the_registration_leads_to_where_steward_listens(host: str, url: str) -> None:
    text = render_example(SECRETS | {("appservice", "listen_host"): host})

    assert registration(load_text(text, "config.yaml"))["url"] == url


def test_the_example_registration_holds_no_token() -> None:
    example = YAML(typ="safe").load(generated()["registration.yaml.example"])

    assert example["as_token"] is None
    assert example["hs_token"] is None
