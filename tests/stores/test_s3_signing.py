"""Signatures are those of the official client, for every kind of request and the oddest keys."""

from __future__ import annotations

import calendar
import hashlib
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials

from soundkeep.errors import Misconfigured
from soundkeep.stores.s3_signing import Address, Credentials, Signer, Style
from soundkeep.testing.contract import ODD_SEGMENTS

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
TOKEN = "a/session+token=="
PAYLOAD = hashlib.sha256(b"body").hexdigest()


class Theirs(auth.S3SigV4Auth):  # type: ignore[misc]
    """The official way to sign, for a body of our choice."""

    def payload(self, request: Any) -> str:
        return PAYLOAD


@pytest.fixture(autouse=True)
def it_is_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "get_current_datetime", lambda: NOON.replace(tzinfo=None))


def signer(address: Address, token: str | None = None, region: str = "eu-west-3") -> Signer:
    at = calendar.timegm(NOON.timetuple())
    return Signer(address, Credentials("someone", "whispered", token), region, lambda: at + 0.7)


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("key", ["blobs/0a1b", *ODD_SEGMENTS])
def test_headers_are_signed_as_the_official_client_signs_them(
    key: str, token: str | None, style: Style
) -> None:
    address = Address.of("https://example.org:9000/base", "audio", style)
    path, query = address.path(key), "partNumber=2&uploadId=a%2Fb%2Bc%3D"
    extra = {"x-amz-storage-class": "COLD", "content-type": "audio/mpeg", "range": "bytes=0-1"}
    ours = signer(address, token).headers("PUT", path, extra, PAYLOAD, query)

    amz = {"x-amz-storage-class": "COLD"}
    request = AWSRequest("PUT", address.url(path, query), headers=amz)
    Theirs(TheirCredentials("someone", "whispered", token), "s3", "eu-west-3").add_auth(request)

    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]
    assert ours.get("x-amz-security-token") == token


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("key", ["blobs/0a1b", *ODD_SEGMENTS])
def test_links_are_signed_as_the_official_client_signs_them(
    key: str, token: str | None, style: Style
) -> None:
    address = Address.of("http://example.org", "audio", style)
    ours = signer(address, token).url(address.path(key), 900)

    request = AWSRequest("GET", address.url(address.path(key)))
    credentials = TheirCredentials("someone", "whispered", token)
    auth.S3SigV4QueryAuth(credentials, "s3", "eu-west-3", expires=900).add_auth(request)

    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(request.url).query)
    assert urlsplit(ours).path == urlsplit(request.url).path


def test_a_new_day_has_a_new_key() -> None:
    now = [calendar.timegm(NOON.timetuple())]
    address = Address.of("http://example.org", "audio", "path")
    lasting = Signer(address, Credentials("someone", "whispered"), "auto", lambda: now[0])
    for seconds in (0, 0, 1, 3600, 86400, 86400 * 40):
        now[0] += seconds
        fresh = Signer(address, Credentials("someone", "whispered"), "auto", lambda: now[0])
        assert lasting.url("/audio/x", 60) == fresh.url("/audio/x", 60)


def test_a_link_lives_a_week_at_most() -> None:
    address = Address.of("http://example.org", "audio", "path")
    assert "X-Amz-Expires=604800&" in signer(address).url("/audio/x", 10**9)


@pytest.mark.parametrize(
    "endpoint", ["example.org", "ftp://example.org", "https://", "http://a?b=c"]
)
def test_what_is_no_address_is_misconfigured(endpoint: str) -> None:
    with pytest.raises(Misconfigured):
        Address.of(endpoint, "audio", "path")


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://S3.Example.org", "s3.example.org"),
        ("https://example.org:443/", "example.org"),
        ("http://example.org:80", "example.org"),
        ("http://example.org:443", "example.org:443"),
        ("http://[::1]:9000", "[::1]:9000"),
    ],
)
def test_the_host_is_signed_as_clients_send_it(endpoint: str, host: str) -> None:
    assert Address.of(endpoint, "audio", "path").host == host
    assert Address.of(endpoint, "audio", "virtual").host == f"audio.{host}"


def test_secrets_are_not_in_what_is_printed() -> None:
    assert "whispered" not in repr(Credentials("someone", "whispered", "token"))
