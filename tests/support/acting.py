"""The second registration, by which adminbot may type in the name of the person who asked."""

import json
import secrets
from pathlib import Path

from tests.support.world import SERVER_NAME


def acting_registration(directory: Path) -> tuple[Path, str]:
    """Write the second registration, by which adminbot may type in somebody's name."""
    token = secrets.token_urlsafe(32)
    path = directory / "acting.yaml"
    path.write_text(
        json.dumps(
            {
                "id": "steward-acting",
                "url": None,
                "as_token": token,
                "hs_token": secrets.token_urlsafe(32),
                "sender_localpart": "_steward_acting",
                "rate_limited": False,
                "namespaces": {
                    "users": [{"regex": f"@.*:{SERVER_NAME}", "exclusive": False}],
                    "aliases": [],
                    "rooms": [],
                },
            }
        )
    )
    return path, token
