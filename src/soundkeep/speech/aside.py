"""Takes that were refused, kept aside on the host that had them made, for a person to hear them.

A person who finds that the judge was wrong accepts one: it is the segment from then on, as if it
had never been refused. What nobody wants goes after `speech.keep_refused_days`.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import structlog

from soundkeep.catalog import money, refusals, segments, speaking
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.money import IntentState
from soundkeep.catalog.refusals import Refusal
from soundkeep.copies.placement import Rules
from soundkeep.errors import Conflict, NoSuchTake
from soundkeep.intake import recording
from soundkeep.intake.examine import Examiner, known_or_examined
from soundkeep.intake.inbox import discard_unless_recorded
from soundkeep.intake.recording import Inbox
from soundkeep.intake.spool import Spool
from soundkeep.model import Blob, Lane, Segment
from soundkeep.writing import writing

PAGE = 100
ROW_SECONDS = 86_400  # longer than a row is written after its file

log = structlog.get_logger()


class Aside:
    """The folder of refused takes of this host, and the rows of all hosts."""

    def __init__(
        self,
        folder: Path,
        host: str,
        *,
        catalog: Catalog,
        spool: Spool,
        examiner: Examiner,
        rules: Rules,
        inbox: str,
        linger_seconds: float,
        keep_seconds: float,
    ) -> None:
        self._folder = folder
        self._host = host
        self._catalog = catalog
        self._spool = spool
        self._examiner = examiner
        self._rules = rules
        self._inbox = inbox
        self._linger_seconds = linger_seconds
        self._keep_seconds = keep_seconds

    async def refused(self, after: int = 0) -> list[Refusal]:
        """The next refused takes, of all hosts, in the order of their numbers."""
        return await self._catalog.read(refusals.page, after, PAGE)

    async def file(self, take_id: int) -> Path:
        """Where a refused take can be heard. Raises `NoSuchTake`, also if another host has it."""
        _, file = await self._find(take_id)
        return file

    async def accept(self, take_id: int) -> Segment:
        """Makes a refused take the segment. It counts for what it has cost.

        Raises `NoSuchTake`; `Conflict` if the segment is there by now or being spoken; `NotAudio`
        and `TypeNotAllowed` for what nobody could play; `WriteFailed`, `JailFailed`.
        """
        refusal, file = await self._find(take_id)
        landed = await self._spool.take(file)
        try:
            blob = await known_or_examined(self._catalog, self._examiner, landed)
        except BaseException:
            self._spool.discard(landed)
            raise
        inbox = Inbox(self._inbox, landed.key, self._linger_seconds)
        try:
            needed = await self._catalog.write(_accept, refusal, blob, inbox, self._rules)
        except Exception:
            await discard_unless_recorded(self._catalog, self._spool, inbox.store, landed)
            raise
        if not needed:
            self._spool.discard(landed)
        file.unlink(missing_ok=True)
        segment = await self._catalog.read(segments.find, refusal.segment_key)
        assert segment is not None
        log.info("a refused take was accepted", segment=segment.key, reason=refusal.reason)
        return segment

    async def put(self, take: Path, name: str) -> None:
        """Moves a take here: the inbox may lie on another disk. Raises `WriteFailed`."""
        with writing("the data directory"):
            self._folder.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(shutil.move, take, self._folder / name)

    async def sweep(self) -> int:
        """Removes what was kept for long enough; answers how many takes that were. A file whose row
        was never written goes too, once it is as old."""
        swept = 0
        while old := await self._catalog.read(
            refusals.expired, self._host, self._keep_seconds, PAGE
        ):
            for refusal in old:
                (self._folder / refusal.file).unlink(missing_ok=True)
            await self._catalog.write(refusals.forget, [refusal.id for refusal in old])
            swept += len(old)
        return swept + await asyncio.to_thread(self._sweep_files)

    def _sweep_files(self) -> int:
        if not self._folder.is_dir():
            return 0
        youngest = time.time() - self._keep_seconds - ROW_SECONDS
        old = [file for file in self._folder.iterdir() if file.stat().st_mtime < youngest]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)

    async def _find(self, take_id: int) -> tuple[Refusal, Path]:
        refusal = await self._catalog.read(refusals.find, take_id)
        if refusal is None:
            raise NoSuchTake(f"no take {take_id} is kept aside")
        if refusal.host != self._host:
            raise NoSuchTake(f"the take {take_id} is kept on {refusal.host}, not here")
        file = self._folder / refusal.file
        if not file.exists():
            raise NoSuchTake(f"the file of take {take_id} is gone")
        return refusal, file


def _accept(tx: Tx, refusal: Refusal, blob: Blob, inbox: Inbox, rules: Rules) -> bool:
    if refusals.find(tx, refusal.id) is None:
        raise Conflict(f"the take {refusal.id} was accepted or swept in the meantime")
    paid = [
        call
        for call in money.of_segment(tx, refusal.segment_key)
        if call.state is IntentState.DONE and (call.ended_at or 0.0) <= refusal.made_at
    ]
    characters, cost = (paid[-1].characters, paid[-1].cost) if paid else (0, None)

    def name_it() -> None:
        speaking.accept(
            tx, refusal.segment_key, digest=blob.digest, characters=characters, cost=cost
        )
        refusals.forget(tx, [refusal.id])

    return recording.record_speech(
        tx, blob, name_it, inbox=inbox, rules=rules, lane=Lane.INTERACTIVE
    )
