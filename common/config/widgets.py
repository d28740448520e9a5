"""The section ``widgets``: where conferences take place that adminbot adds to rooms."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Widgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conferences that adminbot adds to rooms, as Element does."""

    jitsi_domain: Annotated[
        str,
        Meta(
            description=(
                "Jitsi server of new conferences, where the homeserver's .well-known/matrix/client "
                "names none to Element (io.element.jitsi, preferredDomain)."
            ),
            min_length=1,
        ),
    ] = "meet.element.io"
    element_url: Annotated[
        str,
        Meta(
            description=(
                "Address of an Element whose jitsi.html is named in the widget; Element uses its "
                "own copy, other clients load this one."
            ),
            pattern="^https?://",
            extra={"form": "an address that begins with https://"},
            examples=["https://element.example.org"],
        ),
    ] = "https://app.element.io"
    element_call_url: Annotated[
        str,
        Meta(
            description="Address of Element Call for “widget element-call”.",
            pattern="^https?://",
            extra={"form": "an address that begins with https://"},
            examples=["https://call.example.org"],
        ),
    ] = "https://call.element.io"
