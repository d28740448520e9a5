"""A real object store as one that lets objects be overwritten: it never hears of If-None-Match."""

from dataclasses import dataclass, field

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common.demo.servers import SeaweedFS
from tests.support.fault_proxy import FaultProxy, Request

_SIGNED = ("host", "content-type", "content-md5")


@dataclass
class CarelessProxy(FaultProxy):
    """Takes the condition out of each request, and signs what is left of it anew."""

    credentials: Credentials = field(kw_only=True)
    region: str = ""

    def _altered(
        self, request: Request, headers: dict[str, str], lines: list[str], body: bytes
    ) -> list[str]:
        if "if-none-match" not in headers:
            return lines
        signed = {
            name: value
            for name, value in headers.items()
            if name in _SIGNED or name.startswith("x-amz-")
        }
        asked = AWSRequest(
            request.method, f"http://{headers['host']}{request.path}", signed, data=body
        )
        S3SigV4Auth(self.credentials, "s3", self.region).add_auth(asked)
        anew = {name.lower(): str(value) for name, value in asked.headers.items()}
        gone = {"if-none-match", "authorization", *anew}
        kept = [line for line in lines if line.partition(":")[0].lower() not in gone]
        while kept and not kept[-1]:
            kept.pop()
        return [*kept, *(f"{name}: {value}" for name, value in anew.items()), "", ""]


def careless_proxy(server: SeaweedFS) -> CarelessProxy:
    """Return a proxy in front of the store, not yet listening."""
    credentials = Credentials(server.access_key_id, server.secret_access_key.reveal())
    return CarelessProxy(server.endpoint_url, credentials=credentials, region=server.region)
