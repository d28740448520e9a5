"""Commands described to clients, for completion.

Source: MSC4391, "Simplified in-room bot commands"; not accepted yet, hence the unstable names.
"""

import base64
import hashlib
from typing import Any

from adminbot.engine.command import Command, Parameter
from common.ids import UserId

EVENT_TYPE = "org.matrix.msc4391.command_description"


def describe(command: Command) -> dict[str, Any]:
    """Return the content of a command's description."""
    return {
        "command": command.name,
        "description": _text(command.summary),
        "parameters": [_parameter(parameter) for parameter in command.parameters],
    }


def state_key(command: Command, bot: UserId) -> str:
    """Return the state key: padded base64 of the SHA-256 of command and bot."""
    digest = hashlib.sha256(f"{command.name}{bot}".encode()).digest()
    return base64.b64encode(digest).decode()


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.kind.schema)
    described: dict[str, Any] = {
        "key": parameter.name,
        "schema": {"schema_type": "array", "items": schema} if parameter.many else schema,
        "description": _text(parameter.help),
    }
    if not parameter.required:
        described["optional"] = True
    return described


def _text(text: str) -> dict[str, Any]:
    return {"m.text": [{"body": text}]}
