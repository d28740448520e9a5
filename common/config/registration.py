"""The application service registration that belongs to a configuration.

Source: Matrix specification v1.18, application service API, "Registration".
"""

import re
import textwrap
from collections.abc import Mapping

from common.config.example import to_yaml
from common.config.schema import Config

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # nothing binds


def listener_url(config: Config) -> str:
    """Return where the homeserver reaches Steward."""
    service = config.appservice
    if service.url is not None:
        return service.url
    host = _WILDCARDS.get(service.listen_host, service.listen_host)
    bracketed = f"[{host}]" if ":" in host else host
    return f"http://{bracketed}:{service.listen_port}"


def user_ids(config: Config) -> tuple[str, str, str]:
    """Return the three accounts: the silent sender, adminbot, auditbot."""
    sender, adminbot, auditbot = (
        f"@{localpart}:{config.homeserver.server_name}"
        for localpart in (
            config.appservice.sender_localpart,
            config.adminbot.localpart,
            config.auditbot.localpart,
        )
    )
    return sender, adminbot, auditbot


def registration(config: Config) -> dict[str, object]:
    """Return the registration, secrets included, as the homeserver reads it."""
    service = config.appservice
    return {
        "id": service.id,
        "url": listener_url(config),
        "as_token": service.as_token.reveal(),
        "hs_token": service.hs_token.reveal(),
        "sender_localpart": service.sender_localpart,
        "rate_limited": False,
        "receive_ephemeral": False,
        "io.element.msc4190": True,
        "namespaces": {
            "users": [
                {"regex": f"^{re.escape(user)}$", "exclusive": True} for user in user_ids(config)
            ],
            "rooms": [{"regex": "!.*", "exclusive": False}],
            "aliases": [
                {
                    "regex": f"^#.*:{re.escape(config.homeserver.server_name)}$",
                    "exclusive": False,
                }
            ],
        },
    }


_NOTES: Mapping[str, str] = {
    "id": "The homeserver's name for this service; as appservice.id in Steward's configuration.",
    "url": "Where the homeserver reaches Steward.",
    "as_token": "Steward's token for the homeserver; as appservice.as_token.",
    "hs_token": "The homeserver's token for Steward; as appservice.hs_token.",
    "sender_localpart": "A silent third account: Synapse lets no sender call /sync.",
    "rate_limited": "The bots serve every room; limits made for people would delay them.",
    "receive_ephemeral": "No typing notices, receipts or presence.",
    "io.element.msc4190": "Devices are made with the as_token (MSC4190), not by logging in.",
    "namespaces": (
        "Exactly Steward's three accounts, the events of every room, and the addresses of this "
        "server, so that adminbot may make and remove them; nobody else is kept from doing so."
    ),
}

_HEAD = """\
# Steward's registration with the homeserver. List this file in homeserver.yaml under
# app_service_config_files and restart the homeserver. Keep it secret: whoever has the as_token
# can act as adminbot.
"""


def render_registration(config: Config, *, with_secrets: bool = True) -> str:
    """Return the registration as commented YAML.

    Args:
        config: the configuration that it belongs to
        with_secrets: False leaves both tokens empty, so that Synapse refuses the file until
            they are filled in.
    """
    lines = [_HEAD.rstrip("\n")]
    for key, value in registration(config).items():
        lines += ["", *textwrap.wrap(f"# {_NOTES[key]}", 98, subsequent_indent="# ")]
        if key == "namespaces" and isinstance(value, dict):
            lines.append("namespaces:")
            for kind, entries in value.items():
                lines.append(f"  {kind}:{'' if entries else ' []'}")
                lines += [f"    - {to_yaml(entry)}" for entry in entries]
        elif key in {"as_token", "hs_token"} and not with_secrets:
            lines.append(f"{key}:")
        else:
            lines.append(f"{key}: {to_yaml(value)}")
    return "\n".join(lines) + "\n"
