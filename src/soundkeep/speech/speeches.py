"""Whole speeches: a request becomes sound, from what was said before and what must be said anew.

    answer = await speeches.say(request)
    async for piece in answer.pieces(): ...     # live where that can be
    kept = await answer.kept()                   # once all of it is in the ledger

One take in the engine's master format is passed on while it is spoken. Everything else answers
when it is assembled: each segment by itself is had from the cache or the engine
(`generation.py`), all are joined and encoded once (`assembly.py`), and the whole is a blob of its
own. In this process all who ask for one speech share its assembly; in two processes both may
assemble it, which costs no money.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

import structlog

from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog import speeches as speech_rows
from soundkeep.catalog.database import Catalog
from soundkeep.copies.placement import Rules
from soundkeep.errors import (
    BadSpeech,
    EngineError,
    EngineRefused,
    OverBudget,
    SoundkeepError,
    TakeRefused,
)
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Money, Segment, Track, Visibility
from soundkeep.reading.reader import Reader
from soundkeep.settings.speech import SpeechSettings
from soundkeep.speech.assembly import Assembler, row_of
from soundkeep.speech.choosing import Chooser, Chosen
from soundkeep.speech.generation import Generation, Said
from soundkeep.speech.kept import Kept, There, find, look, title_of, track_as, write_one_take
from soundkeep.speech.request import SpeechRequest
from soundkeep.speech.script import Script
from soundkeep.speech.timekeeping import Timekeeper
from soundkeep.speech.timing import Timing

COLLECTION = "speech"  # of what was asked for without one
log = structlog.get_logger()

_T = TypeVar("_T")


class Answer:
    """A speech for one caller. Leaving it early costs nobody anything."""

    chosen: Chosen
    hit: bool  # whether all of it was there when it was asked for
    segments_done = 0  # of `chosen.segments`, so far
    substitute = False  # whether the engine is not the one that was asked for

    async def begun(self) -> None:
        """Waits for the first byte, after which only what is kept can fail. Raises the same as
        `kept`."""
        async with aclosing(self.pieces()) as pieces:
            await anext(pieces, b"")

    async def kept(self) -> Kept:
        """The speech, once it is kept. Raises what `Speeches.say` names."""
        raise NotImplementedError

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """What is sent, from its first byte; a stream that ends without an error has all of it.

        Raises the same. Close it with `aclosing`.
        """
        raise NotImplementedError


class Speeches:
    """Everything that can be heard of texts."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        generation: Generation,
        chooser: Chooser,
        assembler: Assembler,
        timekeeper: Timekeeper,
        reader: Reader,
        rules: Rules,
        settings: SpeechSettings,
    ) -> None:
        self.chooser = chooser
        self._catalog = catalog
        self._generation = generation
        self._assembler = assembler
        self._timekeeper = timekeeper
        self._reader = reader
        self._rules = rules
        self._settings = settings
        self._assembling: dict[str, _Assembly] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def say(self, request: SpeechRequest) -> Answer:
        """What was asked for: there already, or on its way. The request's owner pays.

        A request that allows substitutes is answered once somebody speaks. Raises what
        `Chooser.choose` names and `CatalogUnavailable`; what is said of the answer later raises
        besides `EngineError`, `OverBudget`, `TakeRefused`, `WriteFailed`, `JailFailed` and
        `Unplayable`.
        """
        if not request.substitutes:
            return await self.answer(await self.chooser.choose(request))
        return await self._by_whoever_can(request)

    async def _by_whoever_can(self, request: SpeechRequest) -> Answer:
        """By the engine that was asked for or else the first substitute that begins to speak, all
        of it and under the key of who does. Raises what the engine that was asked for said."""
        try:
            return await self._begun(request)
        except EngineRefused:
            raise  # who asks in another way need not be told by another voice
        except (EngineError, OverBudget, TakeRefused) as error:
            why = error
        for other in request.substitutes:
            try:
                answer = await self._begun(request.instead(other))
            except (BadSpeech, EngineError, OverBudget, TakeRefused) as error:
                log.warning("no substitute", engine=other.engine, why=str(error))
            else:
                answer.substitute = True
                return answer
        raise why

    async def _begun(self, request: SpeechRequest) -> Answer:
        answer = await self.answer(await self.chooser.choose(request))
        if not answer.hit:
            await answer.begun()
        return answer

    async def answer(self, chosen: Chosen) -> Answer:
        """The same for a request of which all is decided."""
        if chosen.is_one_take:
            said = await self._generation.ask(chosen.asked[0], chosen.request.owner)
            return _OneTake(chosen, said, self._started(self._note(chosen, said)))
        found = await self._catalog.read(find, chosen.key)
        if found is not None:
            self._generation.counts.heard(chosen.request.owner, chosen.key, found.worth)
            return _Whole(self, chosen, Kept(chosen, found.blob))
        return _Coming(self, chosen)

    async def look(self, chosen: Chosen) -> There | None:
        """The speech if all of it is kept. It counts as heard only once somebody says `heard`, so
        that whoever serves it often need not ask each time. Raises `CatalogUnavailable`."""
        return await self._catalog.read(look, chosen)

    def heard(self, there: There) -> None:
        """It was heard, and nothing was paid for that."""
        owner, counts = there.chosen.request.owner, self._generation.counts
        if there.segment is not None:
            counts.hit(owner, there.segment)
        else:
            counts.heard(owner, there.chosen.key, there.worth)

    async def track(self, kept: Kept) -> Track:
        """The owner's track of this speech in the request's collection, made at first use.

        Other audio under its path is what the speech was before it was revoked: it is replaced.
        Raises `CatalogUnavailable`.
        """
        request = kept.chosen.request
        collection = request.collection or COLLECTION
        new = NewTrack(
            owner=request.owner,
            path=f"{collection}/{kept.chosen.key}.{kept.blob.sound.extension}",
            title=title_of(request.shown),
            visibility=Visibility(self._settings.visibility),
            metadata=dict(request.metadata),
        )
        return await self.track_as(kept, collection, new)

    async def track_as(self, kept: Kept, collection: str, new: NewTrack) -> Track:
        """The same as a track of its own path and title. Raises `CatalogUnavailable`."""
        return await self._catalog.write(
            track_as, kept.chosen.key, collection, new, kept.blob, self._rules
        )

    def file(self, answer: Answer) -> asyncio.Task[tuple[Kept, Track]]:
        """The speech once it is kept, and its owner's track of it, which is made even if this
        caller leaves: wait for it with `asyncio.shield`. Raises what `say` names."""
        return self._started(self._file(answer))

    async def _file(self, answer: Answer) -> tuple[Kept, Track]:
        kept = await answer.kept()
        return kept, await self.track(kept)

    async def timing(self, key: str, language: str | None = None) -> tuple[Script, Timing] | None:
        """A speech's text and when its words are heard; None if there is no such speech, or nobody
        knows its text. Raises `Unplayable`, `JailFailed`, `CatalogUnavailable`."""
        found = await self._catalog.read(speech_rows.find, key)
        if found is None or found.script is None:
            return None
        script = Script.from_json(found.script)
        segments = await self._catalog.read(segment_rows.find_all, found.segments)
        return script, await self._timekeeper.of_speech(script, segments, language)

    async def close(self) -> None:
        """Assemblies are broken off: what was spoken for them is kept, and they can be had anew."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def bytes_of(self, kept: Kept) -> AsyncGenerator[bytes, None]:
        """What is sent of a speech that is kept: verified, without the head that only we need."""
        head_bytes = kept.chosen.output.head_bytes
        async for piece in self._reader.open(kept.blob, head_bytes):
            yield piece

    def _started(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """What ends by itself, whatever becomes of its caller."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # known to whoever still waits

    # --- one take ---------------------------------------------------------------------------

    async def _note(self, chosen: Chosen, said: Said) -> Kept:
        """Writes down that one segment is the speech, whether or not its caller is still there."""
        segment = await said.segment()
        found = await self._catalog.read(find, chosen.key)
        if found is not None and found.blob.digest == segment.digest:
            blob = found.blob
        else:
            blob = await self._catalog.write(write_one_take, row_of(chosen, segment.digest))
        if not said.paid:
            return Kept(chosen, blob)
        return Kept(chosen, blob, 1, segment.characters, segment.cost)

    # --- assembling -------------------------------------------------------------------------

    def join(self, chosen: Chosen) -> tuple[_Assembly, bool]:
        """The assembly of this speech, and whether it was begun for this caller."""
        there = self._assembling.get(chosen.key)
        if there is not None:
            return there, False
        assembly = self._assembling[chosen.key] = _Assembly(chosen.request.owner)
        assembly.task = self._started(self._assemble(chosen, assembly))
        assembly.task.add_done_callback(lambda _: self._assembling.pop(chosen.key))
        return assembly, True

    async def _assemble(self, chosen: Chosen, assembly: _Assembly) -> Kept:
        said = await self._segments(chosen, assembly)
        blob = await self._assembler.assemble(chosen, [segment for segment, _ in said])
        paid = [segment for segment, is_paid in said if is_paid]
        return Kept(
            chosen,
            blob,
            generated=len(paid),
            characters_paid=sum(segment.characters for segment in paid),
            cost=_sum(segment.cost for segment in paid),
        )

    async def _segments(self, chosen: Chosen, assembly: _Assembly) -> list[tuple[Segment, bool]]:
        """Each segment in order, and whether it was paid for here.

        The first that cannot be had ends it. What is being spoken then goes on, is kept, and need
        not be paid for when somebody asks again; nothing more is begun.
        """
        places = asyncio.Semaphore(self._settings.at_once)
        failed: list[SoundkeepError] = []

        async def have(number: int) -> tuple[Segment, bool] | None:
            async with places:
                if failed:
                    return None
                try:
                    said = await self._generation.ask(chosen.asked[number], chosen.request.owner)
                    segment = await said.segment()
                    assembly.segments_done += 1
                    return segment, said.paid
                except SoundkeepError as error:
                    failed.append(error)
                    return None

        had = await asyncio.gather(*(have(number) for number in range(len(chosen.asked))))
        if failed:
            raise failed[0]
        return [one for one in had if one is not None]


class _Assembly:
    """A speech on its way, for all who asked for it in this process."""

    task: asyncio.Task[Kept]

    def __init__(self, payer: str) -> None:
        self.payer = payer
        self.segments_done = 0


class _OneTake(Answer):
    """What the engine speaks is the speech: it may be heard while it is spoken."""

    def __init__(self, chosen: Chosen, said: Said, task: asyncio.Task[Kept]) -> None:
        self.chosen, self._said, self._task = chosen, said, task
        self.hit = said.hit

    async def kept(self) -> Kept:
        return await asyncio.shield(self._task)

    def pieces(self) -> AsyncGenerator[bytes, None]:
        return self._said.pieces()


class _Whole(Answer):
    """What was there."""

    hit = True

    def __init__(self, speeches: Speeches, chosen: Chosen, kept: Kept) -> None:
        self._speeches, self.chosen, self._kept = speeches, chosen, kept

    async def kept(self) -> Kept:
        return self._kept

    def pieces(self) -> AsyncGenerator[bytes, None]:
        return self._speeches.bytes_of(self._kept)


class _Coming(Answer):
    """What is being assembled."""

    hit = False

    def __init__(self, speeches: Speeches, chosen: Chosen) -> None:
        self._speeches, self.chosen = speeches, chosen
        self._join()

    @property
    def segments_done(self) -> int:  # type: ignore[override] # it grows
        return self._assembly.segments_done

    async def kept(self) -> Kept:
        """Who began it has paid for it; all others had it for nothing."""
        while True:
            assembly = self._assembly
            try:
                kept = await asyncio.shield(assembly.task)
            except OverBudget:
                if assembly.payer == self.chosen.request.owner:
                    raise
                if self._assembly is assembly:  # else another who waits here has gone on
                    self._join()  # that was somebody else's purse
            else:
                return kept if self._is_first else Kept(self.chosen, kept.blob)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        async for piece in self._speeches.bytes_of(await self.kept()):
            yield piece

    def _join(self) -> None:
        self._assembly, self._is_first = self._speeches.join(self.chosen)


def _sum(amounts: Iterable[Money]) -> Money:
    """Of one engine, so in one currency."""
    total = Money()
    for amount in amounts:
        total = Money(total.billionths + amount.billionths, amount.currency or total.currency)
    return total
