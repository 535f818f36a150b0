"""Each refusal and each broken connection is one error of ours, in one line without secrets."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import pytest

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
from soundkeep.stores.http_service import translated
from soundkeep.stores.s3_errors import Refusal

HTML = b"<!DOCTYPE html><html><title>503</title><body>Code: whatever</body></html>"
NO_HEADERS: Mapping[str, str] = {}


def error(status: int, code: str = "", headers: Mapping[str, str] = NO_HEADERS) -> StoreError:
    body = f"<?xml version='1.0'?>\n<Error>\n <Code>{code}</Code><Message>x</Message></Error>"
    return Refusal.read(status, headers, body.encode()).error("far: GET x")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", NotFound),
        (404, "NoSuchBucket", Misconfigured),
        (301, "PermanentRedirect", Misconfigured),
        (400, "AuthorizationHeaderMalformed", Misconfigured),
        (403, "InvalidAccessKeyId", PermissionDenied),
        (403, "SignatureDoesNotMatch", PermissionDenied),
        (403, "AccessDenied", PermissionDenied),
        (400, "ExpiredToken", PermissionDenied),
        (403, "RequestTimeTooSkewed", Misconfigured),
        (429, "", Throttled),
        (429, "TooManyRequests", Throttled),
        (503, "SlowDown", Throttled),
        (400, "EntityTooLarge", TooLarge),
        (413, "", TooLarge),
        (403, "QuotaExceeded", QuotaExceeded),
        (507, "", QuotaExceeded),
        (400, "BadDigest", Corrupt),
        (400, "XAmzContentSHA256Mismatch", Corrupt),
        (412, "PreconditionFailed", Truncated),
        (416, "InvalidRange", Truncated),
        (400, "RequestTimeout", TimedOut),
        (400, "KeyTooLongError", Unsupported),
        (501, "NotImplemented", Unsupported),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (599, "", Unavailable),
    ],
)
def test_a_refusal_is_told_by_its_code_and_else_by_its_status(
    status: int, code: str, kind: type[StoreError]
) -> None:
    raised = error(status, code)
    assert type(raised) is kind
    assert str(raised).startswith("far: GET x: ")
    assert f"HTTP {status} {code}".strip() in str(raised)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", HTML, b"\xff\xfe", b"{}"])
def test_without_a_code_nothing_is_called_absent(status: int, body: bytes) -> None:
    raised = Refusal.read(status, NO_HEADERS, body).error("far: GET x")
    assert not isinstance(raised, NotFound)
    assert isinstance(raised, Unavailable) == (status >= 500)
    assert "\n" not in str(raised)
    assert "html" not in str(raised)


def test_a_code_is_read_in_any_namespace() -> None:
    body = b'<s3:Error xmlns:s3="http://s3"><s3:Code> NoSuchKey </s3:Code></s3:Error>'
    assert type(Refusal.read(404, NO_HEADERS, body).error("x")) is NotFound


def test_the_right_region_is_named_if_the_server_tells() -> None:
    headed = error(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-3"})
    assert "another region: eu-west-3" in str(headed)
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>ap-south-1</Region></Error>"
    assert "another region: ap-south-1" in str(Refusal.read(400, NO_HEADERS, body).error("x"))


def test_how_long_to_wait_is_kept() -> None:
    for headers, seconds in (
        ({"retry-after": "7"}, 7),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ):
        raised = error(429, headers=headers)
        assert isinstance(raised, Throttled)
        assert raised.retry_after == seconds


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (aiohttp.ClientPayloadError("a secret"), Truncated),
        (aiohttp.ServerDisconnectedError(), Unavailable),
        (aiohttp.ServerTimeoutError("a secret"), TimedOut),
        (aiohttp.InvalidURL("https://a secret"), Misconfigured),
        (TimeoutError(), TimedOut),
        (ConnectionResetError("a secret"), Unavailable),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_what_the_libraries_raise_is_translated_and_not_repeated(
    raised: Exception, kind: type[StoreError]
) -> None:
    with pytest.raises(StoreError) as caught, translated("far: list"):
        raise raised
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised
    assert str(caught.value).startswith("far: list: ")
    assert "secret" not in str(caught.value)
    assert "u:p@" not in str(caught.value)


def test_what_is_nobodys_refusal_passes() -> None:
    with pytest.raises(KeyError), translated("far: list"):
        raise KeyError
