"""Ranges and conditions of RFC 9110, against an oracle that counts bytes one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.ranges import (
    ByteRange,
    Unsatisfiable,
    if_range_holds,
    none_match_holds,
    parse_range,
)

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, None),
        ("bytes=0-0", 10, ByteRange(0, 1)),
        ("bytes=9-", 10, ByteRange(9, 10)),
        ("bytes=-1", 10, ByteRange(9, 10)),
        ("bytes=-50", 10, ByteRange(0, 10)),
        ("bytes=2-999", 10, ByteRange(2, 10)),
        ("bytes=0-" + "9" * 5000, 10, ByteRange(0, 10)),
        ("BYTES = 1-2 ", 10, ByteRange(1, 3)),
        ("bytes=10-", 10, "416"),
        ("bytes=" + "9" * 5000 + "-", 10, "416"),
        ("bytes=-0", 10, "416"),
        ("bytes=0-", 0, "416"),
        ("bytes=-5", 0, "416"),
        ("bytes=5-2", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("bytes=0-1,", 10, None),
        ("bytes=" + ",".join(["0-0"] * 20_000), 10, None),
        ("bytes=\xb2-3", 10, None),
        ("bytes=\u0661-\u0662", 10, None),
        ("items=0-1", 10, None),
        ("bytes", 10, None),
        ("bytes=-", 10, None),
        ("bytes=a-b", 10, None),
    ],
)
def test_a_range_header_means_what_the_rfc_says(
    header: str | None, size: int, expected: object
) -> None:
    found = parse_range(header, size)
    assert ("416" if isinstance(found, Unsatisfiable) else found) == expected


@given(st.integers(0, 60), st.integers(0, 80), st.integers(0, 80))
def test_first_and_last_agree_with_counting(size: int, first: int, last: int) -> None:
    named = [position for position in range(size) if first <= position <= last]
    found = parse_range(f"bytes={first}-{last}", size)
    if last < first:
        assert found is None
    elif not named:
        assert isinstance(found, Unsatisfiable)
    else:
        assert found == ByteRange(named[0], named[-1] + 1)


@given(st.integers(0, 60), st.integers(0, 80))
def test_a_suffix_agrees_with_slicing(size: int, length: int) -> None:
    content = bytes(range(size))
    found = parse_range(f"bytes=-{length}", size)
    if not length or not size:
        assert isinstance(found, Unsatisfiable)
    else:
        assert isinstance(found, ByteRange)
        assert content[found.start : found.stop] == content[-length:]


@given(st.text(max_size=40), st.integers(0, 100))
def test_no_header_is_too_strange(header: str, size: int) -> None:
    found = parse_range(header, size)
    if isinstance(found, ByteRange):
        assert 0 <= found.start < found.stop <= size


@pytest.mark.parametrize(
    ("header", "goes_on"),
    [
        (None, True),
        ('"abc"', False),
        ('W/"abc"', False),
        ('"x", "abc"', False),
        ("*", False),
        ('"x"', True),
        ("abc", True),
    ],
)
def test_if_none_match_compares_weakly(header: str | None, goes_on: bool) -> None:
    assert none_match_holds(header, ETAG) is goes_on


@pytest.mark.parametrize(
    ("header", "holds"),
    [(None, True), ('"abc"', True), ('W/"abc"', False), ("Sat, 21 Nov 2026 01:00:00 GMT", False)],
)
def test_if_range_compares_strongly_and_knows_no_dates(header: str | None, holds: bool) -> None:
    assert if_range_holds(header, ETAG) is holds
