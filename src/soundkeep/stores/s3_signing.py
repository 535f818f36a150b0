"""Signature version 4, as S3 wants it, cheap enough to be made for every request.

The key that signs is derived once a day and the rest is two hashes, so a presigned URL costs a
few microseconds where a general client takes a hundred. `Address` says where a bucket lies;
`Signer` makes headers and URLs. Nothing here talks to anybody.

The algorithm is described in AWS's "Signature Version 4 signing process"; the tests compare every
signature with one made by botocore.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, quote, urlsplit

from soundkeep.errors import Misconfigured

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
NOTHING = hashlib.sha256(b"").hexdigest()  # the payload of a request without a body
LONGEST_LINK_SECONDS = 7 * 24 * 3600  # what version 4 allows

Style = Literal["path", "virtual"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks. `session_token` belongs to credentials that were lent for a time."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a bucket lies. With `path` it is part of the path, with `virtual` of the host."""

    scheme: str
    host: str  # with the port, as the header `Host` has it
    base: str  # what comes before a key's slash

    @classmethod
    def of(cls, endpoint: str, bucket: str, style: Style) -> Address:
        """Raises `Misconfigured` for what is no address of a server."""
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise Misconfigured(f"an endpoint is https://HOST or http://HOST, not {endpoint}")
        base, host = parts.path.rstrip("/"), _host(parts)
        if style == "virtual":
            return cls(parts.scheme, f"{bucket}.{host}", base)
        return cls(parts.scheme, host, f"{base}/{encoded(bucket)}")

    def path(self, key: str) -> str:
        """The path of an object, encoded as it is signed and sent."""
        return f"{self.base}/{quote(key, safe='/~')}"

    def url(self, path: str, query: str = "") -> str:
        return f"{self.scheme}://{self.host}{path}{query and f'?{query}'}"


class Signer:
    """Signs requests to one address."""

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        region: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._region = region
        self._clock = clock
        self._second = 0
        self._stamped = ""
        self._mac = hmac.new(b"", digestmod="sha256")  # of the day
        self._scope = self._credential = self._who = ""  # of the day
        token = credentials.session_token
        self._token = f"&X-Amz-Security-Token={encoded(token)}" if token else ""

    def headers(
        self, method: str, path: str, extra: Mapping[str, str], payload: str, query: str = ""
    ) -> dict[str, str]:
        """All headers of a request, signed. `payload` is the SHA-256 of the body in hex.

        Of `extra`, names in lower case, those are signed that must be: `x-amz-…`. The query is
        encoded and in order.
        """
        stamp = self._stamp()
        headers = {**extra, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        if token := self._credentials.session_token:
            headers["x-amz-security-token"] = token
        signed = {"host": self._address.host}
        signed |= {name: headers[name] for name in sorted(headers) if name.startswith("x-amz-")}
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        signature = self._signature(
            stamp, f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
        )
        headers["authorization"] = (
            f"{ALGORITHM} Credential={self._credential}, SignedHeaders={names},"
            f" Signature={signature}"
        )
        return headers

    def url(self, path: str, expires_in_seconds: int) -> str:
        """A URL at which anybody may read the object until it expires; a week at most."""
        stamp = self._stamp()
        seconds = max(1, min(expires_in_seconds, LONGEST_LINK_SECONDS))
        query = f"{self._who}&X-Amz-Date={stamp}&X-Amz-Expires={seconds}{self._token}"
        query += "&X-Amz-SignedHeaders=host"
        host = self._address.host
        signature = self._signature(stamp, f"GET\n{path}\n{query}\nhost:{host}\n\nhost\n{UNSIGNED}")
        return self._address.url(path, f"{query}&X-Amz-Signature={signature}")

    def _stamp(self) -> str:
        """The time as it is signed, made once a second; a new day has a new key."""
        second = int(self._clock())
        if second != self._second:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            if stamp[:8] != self._stamped[:8]:
                self._begin_day(stamp[:8])
            self._second, self._stamped = second, stamp
        return self._stamped

    def _begin_day(self, day: str) -> None:
        key = f"AWS4{self._credentials.secret_key}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = _hmac(key, part)
        self._mac = hmac.new(key, digestmod="sha256")
        self._scope = f"{day}/{self._region}/s3/aws4_request"
        self._credential = f"{self._credentials.access_key}/{self._scope}"
        self._who = f"X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={encoded(self._credential)}"

    def _signature(self, stamp: str, request: str) -> str:
        """Call `_stamp` first: it sees to the key of the day."""
        digest = hashlib.sha256(request.encode()).hexdigest()
        mac = self._mac.copy()  # half the time of a new one
        mac.update(f"{ALGORITHM}\n{stamp}\n{self._scope}\n{digest}".encode())
        return mac.hexdigest()


def _host(parts: SplitResult) -> str:
    """As every client sends it: in lower case, and a port only where it is not the usual one."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = parts.port in (None, {"http": 80, "https": 443}[parts.scheme])
    return host if usual else f"{host}:{parts.port}"


def encoded(text: str) -> str:
    """As a value in a query is signed: everything but letters, digits and `-._~`."""
    return quote(text, safe="~")


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
