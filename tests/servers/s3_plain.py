"""One signed request to an S3 server, by plain urllib: how tests look at what a store did."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from soundkeep.digest import Digest
from soundkeep.stores.s3_signing import Address, Credentials, Signer

TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Bucket:
    """A bucket as a test knows it, and what a store needs to be made for it."""

    endpoint: str
    name: str
    credentials: Credentials
    region: str = "us-east-1"

    def ask(
        self, method: str, key: str = "", body: bytes = b"", query: str = "", **headers: str
    ) -> Answer:
        """Sends one request. A server that cannot be reached is status 0."""
        address = Address.of(self.endpoint, self.name, "path")
        path = address.path(key) if key else address.base
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        signer = Signer(address, self.credentials, self.region)
        signed = signer.headers(method, path, named, Digest.of(body).hex, query)
        request = urllib.request.Request(
            address.url(path, query), data=body or None, headers=signed, method=method
        )
        return sent(request)

    def is_there(self) -> bool:
        """Whether it can be written to; a new one may take some seconds."""
        return self.ask("PUT", ".ready", b"ready").status == 200


def sent(request: urllib.request.Request) -> Answer:
    """Opens it, whatever the status."""
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return Answer(answer.status, _headers(answer), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _headers(error), error.read())
    except OSError:
        return Answer(0)


def _headers(answer: object) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}  # type: ignore[attr-defined]
