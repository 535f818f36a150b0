"""What a refusal means: one error of ours for each, in one clear line.

The code in the answer's XML decides where it is known, else the HTTP status: some servers put
their XML into a namespace, some answer HTML, and a HEAD has no body at all. What a line says comes
from these tables; nothing that a server or a library said is repeated but its code, so that no
signed URL and no secret gets out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    TooLarge,
    Truncated,
    Unavailable,
    Unsupported,
)
from soundkeep.stores.http_service import Meaning, retry_after

NO_KEY: Meaning = NotFound, "there is no such object"
NO_BUCKET: Meaning = Misconfigured, "there is no such bucket, or these credentials may not see it"
OTHER_REGION: Meaning = Misconfigured, "the bucket is in another region"
BAD_KEY: Meaning = PermissionDenied, "the access key or the secret key is wrong"
OLD_TOKEN: Meaning = PermissionDenied, "the session token is wrong or has expired"
DENIED: Meaning = PermissionDenied, "the credentials do not allow this"
SKEWED: Meaning = Misconfigured, "the clock of this machine and the store's differ too much"
SLOWER: Meaning = Throttled, "the store asks us to slow down"
LARGE: Meaning = TooLarge, "the object is larger than the store takes"
FULL: Meaning = QuotaExceeded, "the store has no room left"
DAMAGED: Meaning = Corrupt, "the bytes that arrived are not those that were announced"
CHANGED: Meaning = Truncated, "the object was replaced meanwhile"
OUTSIDE: Meaning = Truncated, "the range lies outside the object"
CANNOT: Meaning = Unsupported, "the store cannot do this"
LATE: Meaning = TimedOut, "the store gave up waiting"
DOWN: Meaning = Unavailable, "the store cannot serve now"
NOT_S3: Meaning = Misconfigured, "nothing that speaks S3 answers at this endpoint"

BY_CODE: dict[str, Meaning] = {
    "NoSuchKey": NO_KEY,
    "NoSuchBucket": NO_BUCKET,
    "InvalidBucketName": NO_BUCKET,
    "PermanentRedirect": OTHER_REGION,
    "TemporaryRedirect": OTHER_REGION,
    "AuthorizationHeaderMalformed": OTHER_REGION,
    "IllegalLocationConstraintException": OTHER_REGION,
    "InvalidAccessKeyId": BAD_KEY,
    "SignatureDoesNotMatch": BAD_KEY,
    "InvalidToken": OLD_TOKEN,
    "ExpiredToken": OLD_TOKEN,
    "TokenRefreshRequired": OLD_TOKEN,
    "AccessDenied": DENIED,
    "AccountProblem": DENIED,
    "AllAccessDisabled": DENIED,
    "NotSignedUp": DENIED,
    "RequestTimeTooSkewed": SKEWED,
    "SlowDown": SLOWER,
    "SlowDownRead": SLOWER,
    "SlowDownWrite": SLOWER,
    "TooManyRequests": SLOWER,
    "RequestLimitExceeded": SLOWER,
    "ThrottlingException": SLOWER,
    "EntityTooLarge": LARGE,
    "QuotaExceeded": FULL,
    "InsufficientCapacity": FULL,
    "XMinioStorageFull": FULL,
    "XMinioAdminBucketQuotaExceeded": FULL,
    "BadDigest": DAMAGED,
    "InvalidDigest": DAMAGED,
    "XAmzContentSHA256Mismatch": DAMAGED,
    "XAmzContentChecksumMismatch": DAMAGED,
    "PreconditionFailed": CHANGED,
    "InvalidRange": OUTSIDE,
    "RequestTimeout": LATE,
    "IncompleteBody": DOWN,  # the connection broke while we sent
    "NoSuchUpload": DOWN,  # somebody reaped it; the next attempt begins anew
    "OperationAborted": DOWN,
    "InternalError": DOWN,
    "ServiceUnavailable": DOWN,
    "NotImplemented": CANNOT,
    "MethodNotAllowed": NOT_S3,
}

BY_STATUS: dict[int, Meaning] = {
    301: OTHER_REGION,
    307: OTHER_REGION,
    308: OTHER_REGION,
    401: DENIED,
    403: DENIED,
    404: NOT_S3,  # an S3 says what is missing
    405: NOT_S3,
    408: LATE,
    409: DOWN,  # another change of the same object is under way
    412: CHANGED,
    413: LARGE,
    416: OUTSIDE,
    429: SLOWER,
    501: CANNOT,
    507: FULL,
}  # all other 5xx may pass; with an unknown code it cannot be done, without any it is no S3

_CODE = re.compile(rb"<(?:\w+:)?Code>\s*(\w{1,80})\s*</")
_REGION = re.compile(rb"<(?:\w+:)?Region>\s*([\w-]{1,40})\s*</")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not what was asked for."""

    status: int
    code: str = ""
    region: str = ""  # where the bucket is, if the store tells
    retry_after_seconds: float | None = None

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
        """From an answer as it came; the body may be anything, or empty."""
        code, region = _CODE.search(body), _REGION.search(body)
        told = headers.get("x-amz-bucket-region", "")
        return cls(
            status,
            code[1].decode() if code else "",
            told or (region[1].decode() if region else ""),
            retry_after(headers),
        )

    def error(self, what: str) -> StoreError:
        """As ours; `what` begins its line, and says who was asked for what."""
        kind, meaning = self._meaning()
        if self.region and (kind, meaning) == OTHER_REGION:
            meaning += f": {self.region}"
        line = f"{what}: {meaning} ({self._said()})"
        if kind is Throttled:
            return Throttled(line, retry_after=self.retry_after_seconds)
        return kind(line)

    def _meaning(self) -> Meaning:
        return BY_CODE.get(self.code) or BY_STATUS.get(self.status) or self._by_class()

    def _by_class(self) -> Meaning:
        if self.status >= 500:
            return DOWN
        return CANNOT if self.code else NOT_S3

    def _said(self) -> str:
        return f"HTTP {self.status} {self.code}".strip()
