"""A store that fails on purpose, in one of the ways that stores were seen to fail.

    faulty = FaultyStore(MemoryStore("disk"))
    faulty.break_with(Fault.truncating(at=1000), verbs={"open"}, times=1)
    …
    faulty.heal()

Faults can be set and lifted while calls run. Healed, it keeps the contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

from soundkeep.digest import Digest
from soundkeep.errors import StoreError, Truncated, Unavailable
from soundkeep.stores.interface import Bytes, Key, Receipt, Source, Stat, Store
from soundkeep.stores.wrappers import Wrapped

R = TypeVar("R")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong. Offsets are those of the object, wherever the range starts."""

    refusal: StoreError | None = None  # raised instead of doing anything
    delay_seconds: float = 0  # before each answer and each piece
    stalls_at: int | None = None  # from this byte on nothing comes until the store is healed
    cut_at: int | None = None  # the body breaks off here
    flip_at: int | None = None  # this byte is another one
    surplus_bytes: int = 0  # so many more, or fewer, than there are, and no error
    lost_answer: StoreError | None = None  # raised after everything was done

    @classmethod
    def raising(cls, error: StoreError) -> Fault:
        """Refuses with this error."""
        return cls(refusal=error)

    @classmethod
    def unavailable(cls) -> Fault:
        """Cannot be reached."""
        return cls(refusal=Unavailable("the store was made to be unavailable"))

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Waits before each answer and each piece of a body."""
        return cls(delay_seconds=seconds)

    @classmethod
    def stalling(cls, at: int = 0) -> Fault:
        """Answers nothing, or gives a body up to a byte and then nothing, until it is healed."""
        return cls(stalls_at=at)

    @classmethod
    def truncating(cls, at: int) -> Fault:
        """Ends bodies at a byte and says so."""
        return cls(cut_at=at)

    @classmethod
    def corrupting(cls, at: int) -> Fault:
        """Turns one byte of a body into another, when it is read, or when it is put."""
        return cls(flip_at=at)

    @classmethod
    def wrong_length(cls, surplus_bytes: int) -> Fault:
        """Gives more bytes than there are, or fewer (a negative number), and says nothing."""
        return cls(surplus_bytes=surplus_bytes)

    @classmethod
    def lost_answers(cls) -> Fault:
        """Does what is asked and answers with an error."""
        return cls(lost_answer=Unavailable("the store was made to lose its answer"))


@dataclass(slots=True)
class _Broken:
    fault: Fault
    verbs: frozenset[str] | None
    times_left: int | None


class FaultyStore(Wrapped):
    """The store inside, until it is broken."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._broken: list[_Broken] = []
        self._healed = asyncio.Event()
        self.calls: list[str] = []  # every verb that was asked for, in order

    def break_with(
        self, fault: Fault, *, verbs: Collection[str] | None = None, times: int | None = None
    ) -> None:
        """From now on these verbs (None: all) fail so, for so many calls (None: until healed).

        Of several faults that fit a call, the one set last is taken.
        """
        self._healed.clear()
        self._broken.insert(0, _Broken(fault, frozenset(verbs) if verbs else None, times))

    def heal(self) -> None:
        """Lifts every fault; what stalls goes on."""
        self._broken.clear()
        self._healed.set()

    async def put(self, key: Key, source: Source) -> Receipt:
        fault = self._next_fault("put")
        if fault.flip_at is not None:
            source = _BentSource(source, fault)
        return await self._suffer(fault, lambda: self.inner.put(key, source))

    async def stat(self, locator: str) -> Stat | None:
        fault = self._next_fault("stat")
        stat = await self._suffer(fault, lambda: self.inner.stat(locator))
        return stat and replace(stat, size_bytes=stat.size_bytes + fault.surplus_bytes)

    async def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        fault = self._next_fault("open")
        body = self.inner.open(locator, start, stop)
        async for piece in self._bent(fault, body, start):
            yield piece

    async def _call(self, verb: str, call: Callable[[], Awaitable[R]]) -> R:
        return await self._suffer(self._next_fault(verb), call)

    async def _stream(
        self, verb: str, items: AsyncGenerator[Item, None]
    ) -> AsyncGenerator[Item, None]:
        """A list, which is refused or late as a whole."""
        async with aclosing(items):
            await self._suffer(self._next_fault(verb), _nothing)
            async for item in items:
                yield item

    def _next_fault(self, verb: str) -> Fault:
        self.calls.append(verb)
        for broken in self._broken:
            if broken.times_left != 0 and (broken.verbs is None or verb in broken.verbs):
                if broken.times_left is not None:
                    broken.times_left -= 1
                return broken.fault
        return Fault()

    async def _suffer(self, fault: Fault, call: Callable[[], Awaitable[R]]) -> R:
        if fault.refusal:
            raise fault.refusal
        if fault.stalls_at is not None:
            await self._healed.wait()
        await asyncio.sleep(fault.delay_seconds)
        answer = await call()
        if fault.lost_answer:
            raise fault.lost_answer
        return answer

    async def _bent(self, fault: Fault, body: Bytes, start: int) -> Bytes:
        if fault.refusal:
            raise fault.refusal
        if fault.cut_at is not None:
            body = _cut(body, fault.cut_at - start)
        if fault.flip_at is not None:
            body = _flipped(body, fault.flip_at - start)
        if fault.surplus_bytes:
            body = _lengthened(body, fault.surplus_bytes)
        if fault.stalls_at is not None:
            body = self._stalling(body, fault.stalls_at - start)
        async with aclosing(body):
            async for piece in body:
                await asyncio.sleep(fault.delay_seconds)
                yield piece
        if fault.lost_answer:
            raise fault.lost_answer

    async def _stalling(self, body: Bytes, at: int) -> Bytes:
        given = 0
        async with aclosing(body):
            async for piece in body:
                if given + len(piece) > at and not self._healed.is_set():
                    head = piece[: max(at - given, 0)]
                    if head:
                        yield head
                    await self._healed.wait()
                    yield piece[len(head) :]
                else:
                    yield piece
                given += len(piece)


async def _nothing() -> None:
    return None


async def _cut(body: Bytes, at: int) -> Bytes:
    """Up to the byte, then an error; a body that ends before it is left alone."""
    given = 0
    async with aclosing(body):
        async for piece in body:
            if given + len(piece) > at:
                if head := piece[: max(at - given, 0)]:
                    yield head
                raise Truncated("the store was made to break off")
            yield piece
            given += len(piece)


async def _flipped(body: Bytes, at: int) -> Bytes:
    given = 0
    async with aclosing(body):
        async for piece in body:
            inside = at - given
            if 0 <= inside < len(piece):
                bent = bytearray(piece)
                bent[inside] ^= 0xFF
                yield bytes(bent)
            else:
                yield piece
            given += len(piece)


async def _lengthened(body: Bytes, surplus_bytes: int) -> Bytes:
    """So many bytes more at the end, or fewer, which takes holding as many back."""
    held = b""
    async with aclosing(body):
        async for piece in body:
            held += piece
            ready = len(held) + min(surplus_bytes, 0)
            if ready > 0:
                yield held[:ready]
                held = held[ready:]
    if surplus_bytes > 0:
        yield b"\0" * surplus_bytes


@dataclass(frozen=True)
class _BentSource:
    """A source whose bytes change on the way into the store."""

    inner: Source
    fault: Fault

    @property
    def size_bytes(self) -> int:
        return self.inner.size_bytes

    @property
    def digest(self) -> Digest:
        return self.inner.digest

    @property
    def media_type(self) -> str:
        return self.inner.media_type

    @property
    def cache_seconds(self) -> int | None:
        return self.inner.cache_seconds

    @property
    def file(self) -> None:
        return None

    @property
    def checked(self) -> bool:
        return False

    def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        assert self.fault.flip_at is not None
        return _flipped(self.inner.open(start, stop), self.fault.flip_at - start)
