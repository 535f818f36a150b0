"""What a store should not know of itself goes around it, one concern a wrapper.

    Limited(Guarded(Bounded(store, 30), expected_id), 8)

Each is a store, passes everything else through, and changes nothing of the contract. Failing over
to another store is nobody's concern here: `reading` does it.
"""

from __future__ import annotations

import asyncio
from asyncio import Semaphore, Timeout
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from soundkeep.digest import Digest
from soundkeep.errors import TimedOut
from soundkeep.stores.interface import Bytes, Caps, Key, Receipt, Source, Stat, Store
from soundkeep.stores.waits import Waits

R = TypeVar("R")
Item = TypeVar("Item")


class Wrapped:
    """Passes everything through to the store inside.

    A wrapper overrides `_call`, through which every single answer goes, and `_stream`, through
    which bodies and lists go.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def caps(self) -> Caps:
        return self.inner.caps

    async def probe(self) -> None:
        await self._call("probe", self.inner.probe)

    async def read_marker(self) -> str | None:
        return await self._call("read_marker", self.inner.read_marker)

    async def write_marker(self, store_id: str) -> None:
        await self._call("write_marker", lambda: self.inner.write_marker(store_id))

    async def put(self, key: Key, source: Source) -> Receipt:
        return await self._call("put", lambda: self.inner.put(key, source))

    async def stat(self, locator: str) -> Stat | None:
        return await self._call("stat", lambda: self.inner.stat(locator))

    def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        return self._stream("open", self.inner.open(locator, start, stop))

    async def delete(self, locator: str) -> None:
        await self._call("delete", lambda: self.inner.delete(locator))

    def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        return self._stream("list", _as_generator(self.inner.list(prefix, after)))

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        return await self._call("sign", lambda: self.inner.sign(locator, expires_in))

    async def reap(self, older_than: timedelta) -> int:
        return await self._call("reap", lambda: self.inner.reap(older_than))

    async def close(self) -> None:
        await self.inner.close()

    async def _call(self, verb: str, call: Callable[[], Awaitable[R]]) -> R:
        return await call()

    def _stream(self, verb: str, items: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
        return items


async def _as_generator(items: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    async for item in items:
        yield item


class Limited(Wrapped):
    """At most so many calls at once, and as many pieces being fetched at once.

    A body holds its place only while a piece is on its way, so slow listeners do not shut the
    store for others. The two are counted apart: a put whose source is this very store would else
    wait for itself.
    """

    def __init__(self, inner: Store, at_once: int) -> None:
        super().__init__(inner)
        self._calls = Semaphore(at_once)
        self._pieces = Semaphore(at_once)

    async def _call(self, verb: str, call: Callable[[], Awaitable[R]]) -> R:
        async with self._calls:
            return await call()

    async def _stream(
        self, verb: str, items: AsyncGenerator[Item, None]
    ) -> AsyncGenerator[Item, None]:
        try:
            while True:
                async with self._pieces:
                    item = await anext(items, None)
                if item is None:
                    return
                yield item
        finally:
            await items.aclose()


class Bounded(Wrapped):
    """Raises `TimedOut` when an answer, or the next piece of a body, takes too long.

    A put is given the time anew with each piece it takes, and its source's own time is not
    counted against the store.
    """

    def __init__(self, inner: Store, timeout_seconds: float) -> None:
        super().__init__(inner)
        self._seconds = timeout_seconds

    async def put(self, key: Key, source: Source) -> Receipt:
        async with self._limit("put") as clock:
            return await self.inner.put(key, _PausingSource(source, clock, self._seconds))

    async def _call(self, verb: str, call: Callable[[], Awaitable[R]]) -> R:
        async with self._limit(verb):
            return await call()

    async def _stream(
        self, verb: str, items: AsyncGenerator[Item, None]
    ) -> AsyncGenerator[Item, None]:
        with closing(Waits(self._seconds, self._late(verb))) as waits:
            try:
                while True:
                    with waits:
                        item = await anext(items, None)
                    if item is None:
                        return
                    yield item
            finally:
                await items.aclose()

    @asynccontextmanager
    async def _limit(self, verb: str) -> AsyncGenerator[Timeout, None]:
        clock = asyncio.timeout(self._seconds)
        try:
            async with clock:
                yield clock
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise TimedOut(self._late(verb)) from error

    def _late(self, verb: str) -> str:
        return f"{self.name} did not answer within {self._seconds:g} s ({verb})"


class Pace:
    """A rate that many share: whoever has taken so many bytes waits until they are paid for."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._paid_at = 0.0

    async def pay(self, size_bytes: int) -> None:
        """Waits until the rate allows what was taken before, and takes this."""
        now = asyncio.get_running_loop().time()
        begins_at = max(now, self._paid_at)
        self._paid_at = begins_at + size_bytes / self._rate
        await asyncio.sleep(begins_at - now)


class Paced(Wrapped):
    """What is put goes at a pace. It stands outermost: waiting for it is not the store's time."""

    def __init__(self, inner: Store, pace: Pace) -> None:
        super().__init__(inner)
        self._pace = pace

    async def put(self, key: Key, source: Source) -> Receipt:
        return await self.inner.put(key, _PacedSource(source, self._pace))


class _ThroughSource:
    """A source that says of itself what the one inside does."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.size_bytes: int = inner.size_bytes
        self.digest: Digest = inner.digest
        self.media_type: str = inner.media_type
        self.cache_seconds: int | None = inner.cache_seconds
        self.file: Path | None = inner.file
        self.checked: bool = inner.checked


class _PausingSource(_ThroughSource):
    """A source whose reader's clock stands still while it waits for the next piece."""

    def __init__(self, inner: Source, clock: Timeout, seconds: float) -> None:
        super().__init__(inner)
        self.clock = clock
        self.seconds = seconds

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        async with aclosing(self.inner.open(start, stop)) as pieces:
            while True:
                with self._paused():
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece

    @contextmanager
    def _paused(self) -> Iterator[None]:
        self.clock.reschedule(None)
        yield
        self.clock.reschedule(asyncio.get_running_loop().time() + self.seconds)


class _PacedSource(_ThroughSource):
    """A source whose pieces go at a pace."""

    def __init__(self, inner: Source, pace: Pace) -> None:
        super().__init__(inner)
        self._pace = pace

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        async with aclosing(self.inner.open(start, stop)) as pieces:
            async for piece in pieces:
                await self._pace.pay(len(piece))
                yield piece
