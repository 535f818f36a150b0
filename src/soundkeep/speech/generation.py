"""Segments on demand: what is there is there, and what is not is spoken once, whoever asks.

    said = await generation.ask(asked, payer="anna")
    segment = await said.segment()          # once it is kept
    async for piece in said.pieces(): ...   # as it is spoken

**Single flight.** In this process all who ask for a key share one flight. The flight that gets the
row's claim leads: it calls the engine (`leading.py`). In other processes it follows: it waits for
the row, woken by PostgreSQL's notifications, with polling as the floor.

**A flight belongs to the row.** It ends by itself, however many of its callers hang up; who asks
again joins it. A process that dies leaves an intent that is `unknown` and a row that is free: at
once where another process of its host waits for it, else when the lease has run out.

**Money** is reserved with the claim, so a budget refuses before any call. A refusal is for the
payer alone: those who waited with other purses ask again by themselves.

What an engine could not do is told to everybody who waited. What may pass also rests on the row,
and who asks meanwhile is told the same without a call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress

import structlog

from soundkeep.catalog import blobs, claims, segments, speaking
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.listening import listen
from soundkeep.catalog.money import Order
from soundkeep.catalog.speaking import Claimed, Held, Noted, Requested, Standing
from soundkeep.errors import (
    BadSpeech,
    CatalogUnavailable,
    DiskFull,
    EngineError,
    OverBudget,
    SoundkeepError,
    Unplayable,
)
from soundkeep.model import Money, Segment
from soundkeep.reading.reader import Reader
from soundkeep.settings.speech import SpeechSettings
from soundkeep.speech.asked import Asked
from soundkeep.speech.counting import Counts
from soundkeep.speech.engines.interface import Engine
from soundkeep.speech.keys import canonical, segment_key
from soundkeep.speech.leading import Leader
from soundkeep.speech.live import Live

POLL_SECONDS = 0.2  # of a row that another process has
FLUSH_SECONDS = 1.0
CLOSE_SECONDS = 30.0  # for what is being spoken, and paid for

log = structlog.get_logger()


class Said:
    """An answer for one caller. Leaving it early costs nobody anything."""

    hit: bool  # whether it was there when it was asked for
    paid = False  # whether the engine was called for this caller; known with the segment

    async def segment(self) -> Segment:
        """The segment, once it is kept. Raises what `Generation.ask` names."""
        raise NotImplementedError

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """The same bytes as those that are kept, from the first one, as they come. Raises the
        same; a stream that ends without an error has all of them. Close it with `aclosing`."""
        raise NotImplementedError


class Generation:
    """Everything that was said, and the way to have more said."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        engines: Mapping[str, Engine],
        leader: Leader,
        reader: Reader,
        settings: SpeechSettings,
        holder: str,
        host: str,
    ) -> None:
        self.engines = engines
        self.counts = Counts()
        self._catalog = catalog
        self.leader = leader
        self._reader = reader
        self._settings = settings
        self._holder = holder
        self._host = host
        self._flights: dict[str, _Flight] = {}
        self._bell = _Bell()
        self._listening = False
        self._tasks: list[asyncio.Task[None]] = []

    # --- asking -----------------------------------------------------------------------------

    async def ask(self, asked: Asked, payer: str) -> Said:
        """The segment that is there, or the flight that is to bring it. `payer` is an owner.

        Raises `CatalogUnavailable`. What is said of it later raises that, `EngineError`,
        `OverBudget`, `TakeRefused`, `BadSpeech`, `WriteFailed`, `Unplayable`.
        """
        key = segment_key(asked)
        if key not in self._flights:
            found = await self._catalog.read(segments.find, key)
            if found is not None:
                self.counts.hit(payer, found)
                return _Kept(self, found)
        return _Ride(self, key, asked, payer)

    async def segment(self, asked: Asked, payer: str) -> Segment:
        """The segment, spoken if it has to be."""
        return await (await self.ask(asked, payer)).segment()

    async def bytes_of(self, segment: Segment) -> AsyncGenerator[bytes, None]:
        """Verified bytes of a segment that is kept. Raises `Unplayable`."""
        blob = await self._catalog.read(blobs.find, segment.digest)
        if blob is None:
            raise Unplayable(f"the segment {segment.key} has no sound")
        async for piece in self._reader.open(blob):
            yield piece

    # --- standing ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Takes up what dead processes of this host left, and counts from now on."""
        await self._catalog.write(speaking.release_dead, self._host)
        self._catalog.on_commit.append(self._bell.ring)
        self._tasks.append(asyncio.create_task(self._look_after()))

    async def close(self) -> None:
        """Lets what is being spoken end, for a while; then it is broken off. Engines stay open."""
        flights = {flight.task for flight in self._flights.values()}
        if flights:
            await asyncio.wait(flights, timeout=CLOSE_SECONDS)
        for task in (*flights, *self._tasks):
            task.cancel()
        await asyncio.gather(*flights, *self._tasks, return_exceptions=True)
        if self._bell.ring in self._catalog.on_commit:
            self._catalog.on_commit.remove(self._bell.ring)
        await self.counts.flush(self._catalog)

    async def _look_after(self) -> None:
        """Writes counts down each second, and says `unknown` of calls whose lease ran out."""
        next_look = 0.0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.counts.flush(self._catalog)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + self._settings.lease_seconds
                with suppress(CatalogUnavailable, DiskFull):
                    await self._catalog.write(speaking.forsake_expired)

    # --- flying -----------------------------------------------------------------------------

    def join(self, key: str, asked: Asked, payer: str) -> tuple[_Flight, bool]:
        """The flight of this key, and whether it was begun for this caller."""
        there = self._flights.get(key)
        if there is not None:
            return there, False
        flight = self._flights[key] = _Flight(payer)
        flight.task = asyncio.create_task(self._fly(flight, key, asked))
        flight.task.add_done_callback(flight.ended)
        return flight, True

    async def _fly(self, flight: _Flight, key: str, asked: Asked) -> Segment:
        """Nobody finds the flight once it has ended: who asks then asks anew."""
        try:
            segment = await self._bring(flight, key, asked)
        except Exception as error:
            log.info("not spoken", segment=key, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            del self._flights[key]
        if flight.led:
            self.counts.miss(flight.payer, segment, flight.first_byte_seconds)
        return segment

    async def _bring(self, flight: _Flight, key: str, asked: Asked) -> Segment:
        found = await self._catalog.read(segments.find, key)
        if found is not None:
            return found
        engine = self._engine(asked.engine)
        await engine.check(asked)
        while True:
            standing: Standing | Claimed = await self._want(flight, key, engine, asked)
            if isinstance(standing, Held):
                standing = await self._follow(key, standing)
            if isinstance(standing, Claimed):
                standing = await self.leader.lead(standing, key, engine, asked, flight.begin)
            if isinstance(standing, Segment):
                return standing
            if isinstance(standing, Noted):
                raise _told_again(standing)

    async def _want(
        self, flight: _Flight, key: str, engine: Engine, asked: Asked
    ) -> Segment | Held | Noted | Claimed:
        request = canonical(asked).decode()
        wish = Requested(
            key, request, engine.name, asked.model, asked.voice, asked.owner, asked.text
        )
        return await self._catalog.write(
            speaking.want,
            wish,
            self._order(flight.payer, key, engine, asked),
            holder=self._holder,
            lease_seconds=self._settings.lease_seconds,
        )

    def _order(self, payer: str, key: str, engine: Engine, asked: Asked) -> Order:
        bill = engine.estimate(asked)
        estimate = Money.of(bill.cost, bill.currency)
        budget = self._settings.budget_of(payer)
        return Order(
            segment_key=key,
            engine=engine.name,
            model=asked.model,
            voice=asked.voice,
            owner=payer,
            characters=bill.characters,
            estimate=estimate,
            budget=None if budget is None else Money.of(budget, bill.currency),
        )

    async def _follow(self, key: str, held: Held) -> Segment | Noted | None:
        """Waits until nobody has the row any more; None if it is free without an outcome."""
        self._listen()
        while True:
            await self._bell.wait(POLL_SECONDS)
            standing = await self._catalog.read(speaking.look, key)
            if not isinstance(standing, Held):
                return standing
            if self._is_dead(standing.holder):
                await self._catalog.write(speaking.release_dead, self._host)

    def _listen(self) -> None:
        """From the first time on that there is something to wait for."""
        if not self._listening:
            self._listening = True
            self._tasks.append(asyncio.create_task(listen(self._catalog, self._bell.ring)))

    def _is_dead(self, holder: str) -> bool:
        return holder.startswith(f"{self._host}/") and not claims.is_alive(holder)

    def _engine(self, name: str) -> Engine:
        engine = self.engines.get(name)
        if engine is None:
            raise BadSpeech(f"there is no engine {name!r}")
        return engine


class _Flight:
    """One segment on its way, in this process."""

    task: asyncio.Task[Segment]

    def __init__(self, payer: str) -> None:
        self.payer = payer
        self.live: Live | None = None
        self.begun = asyncio.Event()  # there is something to hear, or there never will be
        self._since = time.monotonic()

    def begin(self, live: Live) -> None:
        """This process calls the engine itself."""
        self.live = live
        self.begun.set()

    def ended(self, task: asyncio.Task[Segment]) -> None:
        """Nothing more will begin. The error, if there is one, is known to whoever still waits."""
        self.begun.set()
        if not task.cancelled():
            task.exception()

    @property
    def led(self) -> bool:
        return self.live is not None

    @property
    def first_byte_seconds(self) -> float | None:
        """From asking to the first byte of this process's own call."""
        if self.live is None or self.live.first_byte_at is None:
            return None
        return self.live.first_byte_at - self._since


class _Kept(Said):
    """What was there."""

    hit = True

    def __init__(self, generation: Generation, segment: Segment) -> None:
        self._generation = generation
        self._segment = segment

    async def segment(self) -> Segment:
        return self._segment

    def pieces(self) -> AsyncGenerator[bytes, None]:
        return self._generation.bytes_of(self._segment)


class _Ride(Said):
    """One caller's place in a flight."""

    hit = False

    def __init__(self, generation: Generation, key: str, asked: Asked, payer: str) -> None:
        self._generation = generation
        self._key, self._asked, self._payer = key, asked, payer
        self._counted = False
        self._join()

    async def segment(self) -> Segment:
        while True:
            flight = self._flight
            try:
                segment = await asyncio.shield(flight.task)
            except OverBudget:
                if flight.payer == self._payer:
                    raise
                if self._flight is flight:  # whoever else waits in this place may have gone on
                    self._join()  # that was somebody else's purse
            else:
                self._count(segment)
                return segment

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        await self._flight.begun.wait()
        live = self._flight.live
        if live is not None and live.can_be_joined:
            async with aclosing(live.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            await self.segment()
            return
        async with aclosing(self._generation.bytes_of(await self.segment())) as pieces:
            async for piece in pieces:
                yield piece

    def _join(self) -> None:
        self._flight, self._first = self._generation.join(self._key, self._asked, self._payer)

    def _count(self, segment: Segment) -> None:
        """Who began the flight paid, if it called the engine; all others had it for nothing."""
        self.paid = self._first and self._flight.led
        if not self._counted and not self.paid:
            self._generation.counts.hit(self._payer, segment)
        self._counted = True


class _Bell:
    """Wakes everybody who waits, now and then for nothing."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()


def _told_again(noted: Noted) -> SoundkeepError:
    """The error that somebody else was told, for those who waited or come too early."""
    kind = _kinds(SoundkeepError).get(noted.code, EngineError)
    error = kind(noted.message)
    if noted.seconds and hasattr(error, "retry_after"):
        error.retry_after = noted.seconds
    return error


def _kinds(root: type[SoundkeepError]) -> dict[str, type[SoundkeepError]]:
    """The errors of the tree by their codes."""
    found = {root.code: root}
    for kind in root.__subclasses__():
        found |= _kinds(kind)
    return found
