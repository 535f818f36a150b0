"""What a refusal of Supabase Storage means: one error of ours for each, in one clear line.

Its answers have HTTP status 400 for almost everything, and the true status and a code in the body;
servers of before 2024 have no code, and are known by their words. A key that it does not know is
answered as a bucket that is not there. So only a code, or words, that name the *object* ever mean
that something is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soundkeep.errors import (
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
from soundkeep.stores.http_service import Meaning, parsed, retry_after

NO_OBJECT: Meaning = NotFound, "there is no such object"
NO_BUCKET: Meaning = (
    Misconfigured,
    "there is no such bucket, or the key may not see it",
)
NO_PROJECT: Meaning = Misconfigured, "there is no such project"
PAUSED: Meaning = Misconfigured, "the project is paused"
NOT_SUPABASE: Meaning = Misconfigured, "nothing that speaks Supabase Storage answers at this url"
BAD_KEY: Meaning = PermissionDenied, "the key is wrong or has expired"
DENIED: Meaning = PermissionDenied, "the key does not allow this"
LARGE: Meaning = TooLarge, "the object is larger than the bucket or the project takes"
WRONG_TYPE: Meaning = Unsupported, "the bucket does not take this type"
WRONG_NAME: Meaning = Unsupported, "the service does not take this name"
CANNOT: Meaning = Unsupported, "the service cannot do this"
FULL: Meaning = QuotaExceeded, "the project has used up its quota"
OUTSIDE: Meaning = Truncated, "the range lies outside the object"
SLOWER: Meaning = Throttled, "the service asks us to slow down"
LATE: Meaning = TimedOut, "the service gave up waiting"
DOWN: Meaning = Unavailable, "the service cannot serve now"
FORGOTTEN: Meaning = Unavailable, "the upload was forgotten; the next attempt begins anew"

BY_CODE: dict[str, Meaning] = {
    "NoSuchKey": NO_OBJECT,
    "NoSuchBucket": NO_BUCKET,
    "InvalidBucketName": NO_BUCKET,
    "TenantNotFound": NO_PROJECT,
    "InvalidJWT": BAD_KEY,
    "ExpiredToken": BAD_KEY,
    "InvalidSignature": BAD_KEY,
    "SignatureDoesNotMatch": BAD_KEY,
    "AccessDenied": DENIED,
    "EntityTooLarge": LARGE,
    "InvalidMimeType": WRONG_TYPE,
    "InvalidKey": WRONG_NAME,
    "InvalidRange": OUTSIDE,
    "FeatureNotEnabled": CANNOT,
    "NotSupported": CANNOT,
    "NoSuchUpload": FORGOTTEN,
    "InvalidUploadId": FORGOTTEN,
    "SlowDown": SLOWER,
    "DatabaseTimeout": LATE,
    "LockTimeout": DOWN,
    "ResourceLocked": DOWN,
    "DatabaseError": DOWN,
    "DatabaseReadOnly": DOWN,
    "S3Error": DOWN,
    "InternalError": DOWN,
}

BY_WORDS: tuple[tuple[str, str], ...] = (
    ("bucket not found", "NoSuchBucket"),
    ("object not found", "NoSuchKey"),
    ("resource was not found", "NoSuchKey"),
    ("jwt", "InvalidJWT"),
    ("signature", "InvalidJWT"),
    ("row-level security", "AccessDenied"),
    ("mime type", "InvalidMimeType"),
    ("exceeded the maximum", "EntityTooLarge"),
    ("invalid key", "InvalidKey"),
)  # in the message of an answer that has no code

BY_STATUS: dict[int, Meaning] = {
    401: BAD_KEY,
    402: FULL,
    403: DENIED,
    408: LATE,
    409: DOWN,  # another change of the same object is under way
    413: LARGE,
    415: WRONG_TYPE,
    416: OUTSIDE,
    423: DOWN,
    429: SLOWER,
    504: LATE,
    507: FULL,
    540: PAUSED,
    544: LATE,
}  # all other 5xx may pass; any other, such as a 404 of nobody knows what, is no Supabase

_CODE = re.compile(r"[A-Za-z0-9]{1,60}\Z")
_STATUS = re.compile(r"[1-9][0-9]{2}\Z")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not what was asked for."""

    status: int  # the true one
    code: str = ""
    retry_after_seconds: float | None = None

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
        """From an answer as it came; the body may be anything, or empty."""
        said = _object(body)
        true = str(said.get("statusCode", ""))
        true_status = int(true) if _STATUS.match(true) else status
        return cls(true_status, _code(said), retry_after(headers))

    def error(self, what: str) -> StoreError:
        """As ours; `what` begins its line, and says who was asked for what."""
        kind, meaning = BY_CODE.get(self.code) or BY_STATUS.get(self.status) or self._by_class()
        line = f"{what}: {meaning} ({f'HTTP {self.status} {self.code}'.strip()})"
        if kind is Throttled:
            return Throttled(line, retry_after=self.retry_after_seconds)
        return kind(line)

    def _by_class(self) -> Meaning:
        if self.status >= 500:
            return DOWN
        return CANNOT if self.code else NOT_SUPABASE


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = parsed(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _code(said: dict[str, Any]) -> str:
    code = said.get("code")
    if isinstance(code, str) and _CODE.match(code):
        return code
    words = f"{said.get('error', '')} {said.get('message', '')}".lower()
    return next((code for sign, code in BY_WORDS if sign in words), "")
