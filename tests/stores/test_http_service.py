"""What stores over HTTP share: how a server's word is taken, and how much of it is believed."""

from __future__ import annotations

import email.utils
import time

import pytest

from soundkeep.stores.http_service import LONGEST_REST_SECONDS, parsed, retry_after


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("86400", LONGEST_REST_SECONDS),
        ("9" * 400, LONGEST_REST_SECONDS),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_REST_SECONDS),
        ("Fri, 01 Jan 1999 00:00:00 GMT", 0),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_nobody_rests_longer_than_an_hour_whatever_is_asked(
    told: str, seconds: float | None
) -> None:
    assert retry_after({"retry-after": told}) == seconds


def test_a_date_is_counted_from_now() -> None:
    told = email.utils.formatdate(time.time() + 100, usegmt=True)
    seconds = retry_after({"retry-after": told})
    assert seconds is not None
    assert 0 < seconds <= 100


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff", b'"\xff"', b"[" * 10_000, b'{"a":' * 10_000, b"9" * 5000]
)
def test_what_is_no_json_is_an_error_of_one_kind(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|utf-8"):
        parsed(body)
