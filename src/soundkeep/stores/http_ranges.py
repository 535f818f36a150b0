"""An object read over HTTP, in a range: exactly its bytes, also if a server answers otherwise.

A body that breaks off in the middle goes on with a new request from where it stopped, for the same
ETag, a few times; no byte that came is asked for again. A server that answers a range with the
whole object is read up to the end of the range, and what comes before it is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol

from soundkeep.errors import Truncated, Unavailable
from soundkeep.stores.http_service import Answer
from soundkeep.stores.interface import Bytes
from soundkeep.stores.pieces import span

RESUMES = 4  # of one body; a connection that breaks more often is not worth waiting for

_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19})\Z")


class Bodies(Protocol):
    """Whom a body is asked of."""

    @property
    def name(self) -> str: ...

    def body(self, key: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Answer]:
        """The answer to a GET. Raises every `StoreError`."""
        ...


def ranged(
    bodies: Bodies, key: str, start: int, stop: int | None, size: Callable[[], Awaitable[int]]
) -> Bytes:
    """The range of an object, as a store's `open` owes it. `size` asks for its bytes in all."""
    if start == stop:  # HTTP has no way to ask for nothing
        return _nothing(start, size)
    pieces = Reading(bodies, key, start, stop).pieces()
    return _to_the_end(pieces, start, size) if start and stop is None else pieces


async def _nothing(at: int, size: Callable[[], Awaitable[int]]) -> Bytes:
    """No piece, if the object reaches that far."""
    span(await size(), at, at)
    return
    yield b""  # which makes it a generator, as `open` answers


async def _to_the_end(pieces: Bytes, start: int, size: Callable[[], Awaitable[int]]) -> Bytes:
    """Truncated is also said of the nothing after the last byte."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except Truncated:
        if start != await size():
            raise


class Reading:
    """How far one body has come."""

    def __init__(self, requests: Bodies, key: str, start: int, stop: int | None) -> None:
        self._requests = requests
        self._key = key
        self._at = start
        self._stop = stop
        self._etag: str | None = None

    async def pieces(self) -> Bytes:
        """What is asked for. Raises `Truncated` if the object has less, and as a request does."""
        for resumes_left in reversed(range(1 + RESUMES)):
            answered = False  # with what we want
            try:
                async with self._requests.body(self._key, self._headers()) as answer:
                    too_much, stop = self._accept(answer)
                    answered = True
                    while self._at < stop:
                        piece = await self._piece(answer, stop)
                        dropped = min(too_much, len(piece))
                        too_much -= dropped
                        if piece := piece[dropped : dropped + stop - self._at]:
                            self._at += len(piece)
                            yield piece
                return
            except (Truncated, Unavailable):
                if not answered or not resumes_left:
                    raise

    async def _piece(self, answer: Answer, stop: int) -> bytes:
        if piece := await answer.piece():
            return piece
        raise Truncated(f"{self._name} ended at byte {self._at} of {stop}")

    def _headers(self) -> dict[str, str]:
        headers = {}
        if self._at or self._stop is not None:
            last = "" if self._stop is None else self._stop - 1
            headers["range"] = f"bytes={self._at}-{last}"
        if self._etag is not None:
            headers["if-match"] = self._etag
        return headers

    def _accept(self, answer: Answer) -> tuple[int, int]:
        """How many bytes come before those we want, and where these end."""
        first, size_bytes = self._extent(answer)
        etag = answer.headers.get("etag")
        if self._etag not in (None, etag):
            raise Truncated(f"{self._name} was replaced while it was read")
        if first > self._at:
            raise Truncated(f"{self._name} begins at byte {first} instead of {self._at}")
        _, stop = span(size_bytes, self._at, self._stop)
        self._etag, self._stop = etag, stop
        return self._at - first, stop

    def _extent(self, answer: Answer) -> tuple[int, int]:
        """Which byte an answer begins with, and the object's size: the header tells, whatever the
        status. One server says 200 and means 206."""
        found = _RANGE.match(answer.headers.get("content-range", ""))
        if found:
            return int(found[1]), int(found[2])
        if answer.status == 200 and answer.content_length is not None:
            return 0, answer.content_length
        raise Unavailable(f"{self._name}: the answer does not tell which bytes it holds")

    @property
    def _name(self) -> str:
        return f"{self._requests.name}: {self._key}"
