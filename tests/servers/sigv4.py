"""Checks AWS Signature Version 4, of headers and of presigned URLs, as an S3 server does.

Written from "Authenticating Requests: Using the Authorization Header" and "… Query Parameters" of
the Amazon S3 API reference, not from any client: it is what clients are tested against.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote

SKEW = timedelta(minutes=15)
LONGEST_SECONDS = 7 * 24 * 3600
UNSIGNED = "UNSIGNED-PAYLOAD"


class Refused(Exception):
    """What S3 answers: status, code, sentence and further elements of the error's XML."""

    def __init__(self, status: int, code: str, message: str, **elements: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.elements = status, code, message, elements


@dataclass(frozen=True)
class Request:
    """`target` is the path and query as sent; the names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.split("?", 1)[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        text = self.target.partition("?")[2].replace("+", "%2B")
        return parse_qsl(text, keep_blank_values=True)


@dataclass(frozen=True)
class Claim:
    """What a request says of itself."""

    access_key: str
    scope: str  # date/region/service/aws4_request
    signed_headers: list[str]
    signature: str
    signed_at: datetime
    payload: str
    expires_seconds: int | None = None

    @property
    def region(self) -> str:
        return self.scope.split("/")[1]


@dataclass(frozen=True)
class Guard:
    """Who may come in, in which regions, and what the time is here."""

    secrets: Mapping[str, str]
    regions: frozenset[str]
    clock_ahead: timedelta = field(default_factory=timedelta)

    def check(self, request: Request) -> None:
        """Raises `Refused`, for the first reason in the order of the real ones."""
        claim = claim_of(request)
        if claim.access_key not in self.secrets:
            raise Refused(403, "InvalidAccessKeyId", "The access key Id does not exist.")
        if claim.region not in self.regions:
            right = min(self.regions)
            text = f"The region '{claim.region}' is wrong; expecting '{right}'"
            raise Refused(400, "AuthorizationHeaderMalformed", text, Region=right)
        self._check_time(claim)
        signature = sign(request, claim, self.secrets[claim.access_key])
        if not hmac.compare_digest(signature, claim.signature):
            text = "The request signature we calculated does not match the signature you provided."
            raise Refused(403, "SignatureDoesNotMatch", text)
        _check_payload(request, claim)

    def _check_time(self, claim: Claim) -> None:
        now = datetime.now(UTC) + self.clock_ahead
        if claim.expires_seconds is None:
            if abs(now - claim.signed_at) > SKEW:
                text = "The difference between the request time and the current time is too large."
                raise Refused(403, "RequestTimeTooSkewed", text)
        elif now > claim.signed_at + timedelta(seconds=claim.expires_seconds):
            raise Refused(403, "AccessDenied", "Request has expired")
        elif now < claim.signed_at - SKEW:
            raise Refused(403, "AccessDenied", "Request is not yet valid")


def claim_of(request: Request) -> Claim:
    """Raises `Refused` if there is none, or none that can be read."""
    query = dict(request.query)
    try:
        return _presigned(query) if "X-Amz-Signature" in query else _in_headers(request.headers)
    except (KeyError, ValueError) as error:
        raise Refused(400, "AuthorizationHeaderMalformed", f"not readable: {error}") from error


def _presigned(query: Mapping[str, str]) -> Claim:
    access_key, _, scope = query["X-Amz-Credential"].partition("/")
    seconds = int(query["X-Amz-Expires"])
    if not 0 < seconds <= LONGEST_SECONDS:
        raise ValueError("X-Amz-Expires")
    return Claim(
        access_key,
        scope,
        query["X-Amz-SignedHeaders"].split(";"),
        query["X-Amz-Signature"],
        _time(query["X-Amz-Date"]),
        UNSIGNED,
        seconds,
    )


def _in_headers(headers: Mapping[str, str]) -> Claim:
    if "authorization" not in headers:
        raise Refused(403, "AccessDenied", "Access Denied")
    given = headers["authorization"]
    parts = dict(re.findall(r"(Credential|SignedHeaders|Signature)=([^,\s]+)", given))
    access_key, _, scope = parts["Credential"].partition("/")
    return Claim(
        access_key,
        scope,
        parts["SignedHeaders"].split(";"),
        parts["Signature"],
        _time(headers["x-amz-date"]),
        headers["x-amz-content-sha256"],
    )


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def sign(request: Request, claim: Claim, secret: str) -> str:
    """The signature that the request should bear."""
    day, region, service, end = claim.scope.split("/")
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, end):
        key = hmac.digest(key, part.encode(), "sha256")
    canonical = hashlib.sha256(_canonical(request, claim).encode()).hexdigest()
    moment = claim.signed_at.strftime("%Y%m%dT%H%M%SZ")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{claim.scope}\n{canonical}"
    return hmac.digest(key, text.encode(), "sha256").hex()


def _canonical(request: Request, claim: Claim) -> str:
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~"))
        for name, value in request.query
        if name != "X-Amz-Signature"
    )
    headers = [
        f"{name}:{' '.join(request.headers.get(name, '').split())}\n"
        for name in claim.signed_headers
    ]
    return "\n".join(
        [
            request.method,
            quote(unquote(request.path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(headers),
            ";".join(claim.signed_headers),
            claim.payload,
        ]
    )


def _check_payload(request: Request, claim: Claim) -> None:
    if claim.payload.startswith("STREAMING-"):
        raise Refused(501, "NotImplemented", f"{claim.payload} is not taken here")
    if claim.payload not in (UNSIGNED, hashlib.sha256(request.body).hexdigest()):
        text = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise Refused(400, "XAmzContentSHA256Mismatch", text)
