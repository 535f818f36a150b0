"""One sound of many takes: decoded, joined sample by sample, and encoded once.

Joining encoded files drifts by tens of milliseconds at every join; samples do not. What lies on
the disk meanwhile is the samples of the whole, in memory there are never more than a few.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from soundkeep.audio.jail import Jail
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog import speeches
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.speeches import Speech
from soundkeep.copies.placement import Rules
from soundkeep.digest import Digest
from soundkeep.intake import recording
from soundkeep.intake.examine import Examiner, known_or_examined
from soundkeep.intake.inbox import discard_unless_recorded
from soundkeep.intake.recording import Inbox
from soundkeep.intake.spool import Landed, Spool
from soundkeep.model import Blob, Lane, Segment
from soundkeep.speech.choosing import Chosen
from soundkeep.speech.sounds import Samples, Sounds
from soundkeep.speech.timekeeping import Timekeeper
from soundkeep.writing import desk

PARTS_AHEAD = 3  # segments that are decoded while others are joined


@dataclass(frozen=True, slots=True)
class Desk:
    """Where speeches are put together, and where they go from there."""

    folder: Path
    inbox: str
    linger_seconds: float


class Assembler:
    """Makes the sound of a speech from its segments."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        sounds: Sounds,
        timekeeper: Timekeeper,
        jail: Jail,
        spool: Spool,
        examiner: Examiner,
        rules: Rules,
        desk: Desk,
    ) -> None:
        self._catalog = catalog
        self._sounds = sounds
        self._timekeeper = timekeeper
        self._jail = jail
        self._spool = spool
        self._examiner = examiner
        self._rules = rules
        self._desk = desk

    async def assemble(self, chosen: Chosen, segments: Sequence[Segment]) -> Blob:
        """The sound of the whole, on its way into the stores, and the row that names it.

        Raises `Unplayable`, `JailFailed`, `NotAudio`, `WriteFailed`, `CatalogUnavailable`.
        """
        with desk(self._desk.folder) as folder:
            joined = await self._joined(chosen, segments, folder)
            sound = folder / f"speech.{chosen.output.extension}"
            await self._jail.encode(
                [joined.path],
                sound,
                sample_rate_hz=joined.rate_hz,
                coding=chosen.output.coding,
                out_rate_hz=chosen.output.sample_rate_hz,
                bit_rate=chosen.output.bit_rate,
            )
            landed = await self._spool.take(sound)
        return await self._record(chosen, landed)

    async def _joined(self, chosen: Chosen, segments: Sequence[Segment], folder: Path) -> Samples:
        """All samples in one file."""
        # The first says the rate of all, where the engine's format does not.
        rate_hz = chosen.engine.caps.master.sample_rate_hz
        first = await self._part(chosen, segments[0], folder / "0", rate_hz)
        path, count = folder / "joined.pcm", 0
        with path.open("wb") as file:
            async with aclosing(self._parts(chosen, segments[1:], folder, first.rate_hz)) as parts:
                async for samples in _after(first, parts):
                    with samples.path.open("rb") as part:
                        shutil.copyfileobj(part, file)
                    samples.path.unlink()
                    count += samples.count
        return Samples(path, first.rate_hz, count)

    async def _parts(
        self, chosen: Chosen, segments: Sequence[Segment], folder: Path, rate_hz: int
    ) -> AsyncGenerator[Samples, None]:
        """In order. A few are decoded ahead; of what is never taken nothing goes on."""
        ahead: deque[asyncio.Task[Samples]] = deque()
        try:
            for number, segment in enumerate(segments, 1):
                part = self._part(chosen, segment, folder / str(number), rate_hz)
                ahead.append(asyncio.create_task(part))
                if len(ahead) == PARTS_AHEAD:
                    yield await ahead.popleft()
            while ahead:
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _part(
        self, chosen: Chosen, segment: Segment, folder: Path, rate_hz: int | None
    ) -> Samples:
        """One segment decoded; its timing is found on the way. What is said twice may be decoded
        twice at once, so each has a folder of its own."""
        folder.mkdir()
        samples = await self._sounds.samples(segment, folder, rate_hz)
        if chosen.request.timings:
            await self._timekeeper.of_segment(segment, samples, chosen.request.language)
        return samples

    async def _record(self, chosen: Chosen, landed: Landed) -> Blob:
        """As with an upload: what is not recorded is discarded, what may be recorded is not."""
        try:
            blob = await known_or_examined(self._catalog, self._examiner, landed)
        except BaseException:
            self._spool.discard(landed)
            raise
        inbox = Inbox(self._desk.inbox, landed.key, self._desk.linger_seconds)
        try:
            needed = await self._catalog.write(
                _write_speech, blob, row_of(chosen, blob.digest), inbox, self._rules
            )
        except Exception:
            await discard_unless_recorded(self._catalog, self._spool, inbox.store, landed)
            raise
        if not needed:
            self._spool.discard(landed)
        return blob


async def _after(
    first: Samples, rest: AsyncGenerator[Samples, None]
) -> AsyncGenerator[Samples, None]:
    yield first
    async for samples in rest:
        yield samples


def row_of(chosen: Chosen, digest: Digest) -> Speech:
    """What the catalog keeps of a speech whose sound has that digest."""
    return Speech(
        key=chosen.key,
        format=chosen.output.name,
        segments=chosen.segment_keys,
        digest=digest,
        script=chosen.script.to_json(),
        hits=0,
    )


def _write_speech(tx: Tx, blob: Blob, row: Speech, inbox: Inbox, rules: Rules) -> bool:
    """Raises `Unplayable` if a segment was revoked while it was being assembled."""
    segment_rows.find_all(tx, row.segments, hold=True)
    return recording.record_speech(
        tx,
        blob,
        lambda: speeches.record(tx, row),
        inbox=inbox,
        rules=rules,
        lane=Lane.INTERACTIVE,
    )
