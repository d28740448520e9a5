"""Forms that values of the configuration may have, each with its unit or how it is written."""

from typing import Annotated

from msgspec import Meta

# ``extra`` of a Meta may hold "unit" and, where there is a pattern, "form": what a person has to
# write, as it stands after "must be" in an error. "address" marks a base address: it is kept
# without a slash at its end.
_ADDRESS = {"form": "an address that begins with http:// or https://", "address": True}
SECONDS = {"unit": "seconds"}
BYTES = {"unit": "bytes"}

Address = Annotated[str, Meta(pattern="^https?://", extra=_ADDRESS)]
Picture = Annotated[
    str, Meta(pattern="^mxc://", extra={"form": "a content URI that begins with mxc://"})
]
Destination = Annotated[
    str,
    Meta(pattern="^(file|s3):", extra={"form": "file:DIRECTORY, s3://BUCKET/PREFIX or null"}),
]
StoreEncryption = Annotated[
    str, Meta(pattern="^(AES256|aws:kms)$", extra={"form": "AES256 or aws:kms"})
]
ObjectLock = Annotated[
    str,
    Meta(pattern="^(governance|compliance)$", extra={"form": "governance or compliance"}),
]
Listener = Annotated[
    str,
    Meta(
        pattern=r"^(/[^\0]+|[^/\s]+:[0-9]{1,5})$",
        extra={"form": "the path of a socket, or HOST:PORT"},
    ),
]
Days = Annotated[int, Meta(ge=1, extra={"unit": "days"})]
MessageText = Annotated[str, Meta(max_length=4000)]
FilledText = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(extra=SECONDS)]
