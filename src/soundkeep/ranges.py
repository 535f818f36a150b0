"""Byte ranges and conditional requests: RFC 9110, sections 13 and 14, as pure functions.

One range is served; several in one request are answered with the whole (14.2 allows it). What is
malformed or of another unit is ignored, as the RFC asks, never an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(
    r"bytes[ \t]*=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.IGNORECASE | re.ASCII
)
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_MAX_DIGITS = 4000  # Python refuses to convert more; a longer number counts as this long


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Half-open: the bytes from `start` up to but not including `stop`."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start

    def content_range(self, size_bytes: int) -> str:
        """The value of a `Content-Range` field, whose ends are inclusive."""
        return f"bytes {self.start}-{self.stop - 1}/{size_bytes}"


class Unsatisfiable:
    """The range is well formed and lies outside the content: 416."""


UNSATISFIABLE = Unsatisfiable()


def parse_range(header: str | None, size_bytes: int) -> ByteRange | Unsatisfiable | None:
    """The one range that a `Range` field asks for, clamped to the content.

    None means that the whole content is to be sent: no field, several ranges, another unit, or
    nothing that can be understood.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return _suffix(_number(suffix), size_bytes)
    start = _number(first)
    stop = _number(last) + 1 if last else size_bytes
    if stop <= start and last:
        return None  # "5-2" is not a valid range (14.1.2), so the field is ignored
    if start >= size_bytes:
        return UNSATISFIABLE
    return ByteRange(start, min(stop, size_bytes))


def if_range_holds(header: str | None, etag: str) -> bool:
    """Whether a range may be served as one: no condition, or the very same strong ETag.

    A date never matches: content has no date of its own here, and weak comparison is forbidden
    (13.1.5).
    """
    return header is None or header.strip() == etag


def none_match_holds(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` lets the request go on; False asks for a 304 (13.1.2, weak)."""
    if header is None:
        return True
    if header.strip() == "*":
        return False
    return etag not in (tag.removeprefix("W/") for tag in _ETAG.findall(header))


def _suffix(length: int, size_bytes: int) -> ByteRange | Unsatisfiable:
    if length == 0 or size_bytes == 0:
        return UNSATISFIABLE
    return ByteRange(max(0, size_bytes - length), size_bytes)


def _number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        digits = digits.lstrip("0")
    return int(digits) if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS
