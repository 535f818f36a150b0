"""One call of an engine, from the claim of its row to the take that is kept.

The call belongs to the row: it ends by itself, whoever hangs up. What it may have cost is in the
ledger before it begins (`catalog/speaking.py`), and what became of it is written with the row, in
one transaction. The lease is renewed meanwhile; who has lost it all the same keeps nothing, since
somebody else is speaking by now, and only says what it cost.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import structlog

from soundkeep.catalog import claims, money
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.money import IntentState, Outcome
from soundkeep.catalog.schema import segments
from soundkeep.catalog.speaking import Claimed
from soundkeep.copies.placement import Rules
from soundkeep.errors import (
    CatalogUnavailable,
    DiskFull,
    EmptyUpload,
    EngineAnsweredBadly,
    EngineError,
    EngineUnavailable,
    LeaseLost,
    NotAudio,
    SoundkeepError,
    TakeRefused,
    TypeNotAllowed,
    WriteFailed,
)
from soundkeep.intake.examine import Examiner, known_or_examined
from soundkeep.intake.inbox import discard_unless_recorded
from soundkeep.intake.recording import Inbox
from soundkeep.intake.spool import Landed, Landing, Spool
from soundkeep.model import Blob, Segment
from soundkeep.speech.aside import Aside
from soundkeep.speech.asked import Asked
from soundkeep.speech.calls import (
    Call,
    Take,
    Taken,
    write_broken_off,
    write_error,
    write_refusal,
    write_segment,
)
from soundkeep.speech.engines.interface import Bill, Engine
from soundkeep.speech.live import Live
from soundkeep.speech.timing import Mark, Timing

RENEWALS_IN_A_LEASE = 3
AGAIN_SECONDS = 0.5  # until a catalog that is out is asked again

R = TypeVar("R")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a take may be kept, and if not, why."""

    accepted: bool
    reason: str = ""


Judge: TypeAlias = Callable[[Take], Awaitable[Verdict]]  # `judging.py` has the one we go by


@dataclass(frozen=True, slots=True)
class Where:
    """Where takes land."""

    inbox: str
    linger_seconds: float
    host: str


@dataclass(slots=True)
class _Spoken:
    """What has come of an answer by now."""

    marks: list[Mark] = field(default_factory=list)
    bill: Bill | None = None


class Leader:
    """Has segments spoken whose rows this process holds."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        spool: Spool,
        examiner: Examiner,
        judge: Judge,
        aside: Aside,
        rules: Rules,
        where: Where,
        lease_seconds: float,
    ) -> None:
        self._catalog = catalog
        self._spool = spool
        self._examiner = examiner
        self.judge = judge
        self._aside = aside
        self._rules = rules
        self._where = where
        self._lease_seconds = lease_seconds

    async def lead(
        self,
        claimed: Claimed,
        key: str,
        engine: Engine,
        asked: Asked,
        begun: Callable[[Live], None],
    ) -> Segment | None:
        """The segment as it was kept; None if the lease was lost and somebody else has it now.

        `begun` is given the live take before its first byte. Raises `EngineError`, `TakeRefused`,
        `WriteFailed`, `CatalogUnavailable`, all but the last noted on the row.
        """
        call = Call(claimed, key, engine, asked)
        async with self._renewed(claimed):
            try:
                return await self._lead(call, begun)
            except LeaseLost:
                return None

    async def _lead(self, call: Call, begun: Callable[[Live], None]) -> Segment:
        try:
            landing = self._spool.begin()
        except WriteFailed as error:
            await self._note(call, error, call.cost_nothing())
            raise
        live = Live(landing.temporary)
        begun(live)
        try:
            bill, timing = await self._hear(call, landing, live)
            return await self._keep(call, await self._publish(call, landing, bill), timing, live)
        except LeaseLost:  # what was heard of this take is not what will be kept
            live.end(EngineUnavailable("another process has it spoken now", charged=None))
            raise
        except SoundkeepError as error:
            live.end(error)
            raise
        except BaseException as error:  # ended from outside, or a fault of ours
            live.end(EngineUnavailable("the call was broken off", charged=None))
            await asyncio.shield(self._break_off(call, error))
            raise
        finally:
            landing.remove()

    # --- speaking ---------------------------------------------------------------------------

    async def _hear(
        self, call: Call, landing: Landing, live: Live
    ) -> tuple[Bill, Mapping[str, Any] | None]:
        """Writes down what the engine says as it comes."""
        spoken = _Spoken()
        try:
            async with aclosing(call.engine.speak(call.asked)) as speaking:
                async for piece in speaking:
                    spoken.marks += piece.marks
                    spoken.bill = piece.bill or spoken.bill
                    if piece.audio:
                        landing.write(piece.audio)
                        live.grown(landing.size_bytes)
            if spoken.bill is None:
                raise EngineAnsweredBadly("the answer ended without a bill", charged=None)
        except EngineError as error:
            await self._note(call, error, call.failed(error))
            raise
        except SoundkeepError as error:  # of this machine: the engine may have been paid
            await self._note(call, error, call.unknown(error))
            raise
        return spoken.bill, _timing(spoken.marks)

    async def _publish(self, call: Call, landing: Landing, bill: Bill) -> Taken:
        try:
            landed = await self._spool.publish(landing)
        except EmptyUpload:
            error = EngineAnsweredBadly("the answer had no sound", charged=True)
            await self._note(call, error, call.done(bill))
            raise error from None
        except WriteFailed as error:
            await self._note(call, error, call.done(bill))
            raise
        return Taken(landed, bill)

    # --- judging ----------------------------------------------------------------------------

    async def _keep(
        self, call: Call, taken: Taken, timing: Mapping[str, Any] | None, live: Live
    ) -> Segment:
        """Judges the take, and makes it the segment. Only then does any stream of it end well."""
        try:
            blob = await self._insist(
                lambda: known_or_examined(self._catalog, self._examiner, taken.landed)
            )
            verdict = await self.judge(call.take(taken, blob.sound))
        except (NotAudio, TypeNotAllowed) as error:
            verdict = Verdict(accepted=False, reason=str(error))
        except SoundkeepError as error:  # the judge could not be asked
            await self._note(call, error, call.done(taken.bill))
            self._spool.discard(taken.landed)
            raise
        if not verdict.accepted:
            raise await self._refuse(call, taken, verdict)
        segment = await self._record(call, taken, blob, timing)
        live.end()
        return segment

    async def _refuse(self, call: Call, taken: Taken, verdict: Verdict) -> TakeRefused:
        """Puts the take aside, so that a person can listen to it, and notes why."""
        error = TakeRefused(f"the take was refused: {verdict.reason}")
        file = f"{call.key}-{uuid.uuid4().hex}"
        try:
            await self._aside.put(taken.landed.path, file)
        except WriteFailed as unwritten:
            await self._note(call, unwritten, call.done(taken.bill))
            self._spool.discard(taken.landed)
            raise
        log.warning("a take was refused", segment=call.key, reason=verdict.reason)
        await self._insist(
            lambda: self._catalog.write(
                write_refusal, call, call.done(taken.bill), error, verdict.reason,
                self._where.host, file,
            )
        )  # fmt: skip
        return error

    # --- writing down -----------------------------------------------------------------------

    async def _record(
        self, call: Call, taken: Taken, blob: Blob, timing: Mapping[str, Any] | None
    ) -> Segment:
        """The take becomes the segment, and its blob is on its way to the stores."""
        outcome, landed = call.done(taken.bill), taken.landed
        inbox = Inbox(self._where.inbox, landed.key, self._where.linger_seconds)
        try:
            needed = await self._insist(
                lambda: self._catalog.write(
                    write_segment, call, outcome, blob, timing, inbox, self._rules
                )
            )
        except LeaseLost:
            return await self._kept_all_the_same(call, landed, outcome)
        if not needed:
            self._spool.discard(landed)
        return call.segment(blob, timing, outcome)

    async def _kept_all_the_same(self, call: Call, landed: Landed, outcome: Outcome) -> Segment:
        """A connection that broke under the commit does not say how that ended: it may be that our
        own outcome ended the lease. Raises `LeaseLost` if it was somebody else."""
        kept = await self._insist(lambda: self._catalog.read(segment_rows.find, call.key))
        if kept is not None and kept.digest == landed.fingerprint.digest:
            return kept
        await self._insist(
            lambda: self._catalog.write(money.settle, call.claimed.intent_id, outcome)
        )
        await discard_unless_recorded(self._catalog, self._spool, self._where.inbox, landed)
        raise LeaseLost

    async def _note(self, call: Call, error: SoundkeepError, outcome: Outcome) -> None:
        """What cannot be noted is `unknown` once the lease has run out."""
        with suppress(CatalogUnavailable, DiskFull):
            try:
                await self._insist(lambda: self._catalog.write(write_error, call, error, outcome))
            except LeaseLost:
                await self._catalog.write(money.settle, call.claimed.intent_id, outcome)
                raise

    async def _break_off(self, call: Call, error: BaseException) -> None:
        """The call was left in the middle: what it cost nobody knows, and the next may try."""
        outcome = Outcome(IntentState.UNKNOWN, error=type(error).__name__)
        with suppress(LeaseLost, CatalogUnavailable, DiskFull):
            await self._catalog.write(write_broken_off, call, outcome)

    async def _insist(self, act: Callable[[], Awaitable[R]]) -> R:
        """Again and again while the catalog is out or its disk is full, for as long as a lease
        lasts: what was paid for is worth waiting."""
        deadline = time.monotonic() + self._lease_seconds
        while True:
            try:
                return await act()
            except (CatalogUnavailable, DiskFull):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    @asynccontextmanager
    async def _renewed(self, claimed: Claimed) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._renew(claimed))
        try:
            yield
        finally:
            renewing.cancel()

    async def _renew(self, claimed: Claimed) -> None:
        """Until it is cancelled, or the lease is lost: then the outcome finds out."""
        while True:
            await asyncio.sleep(self._lease_seconds / RENEWALS_IN_A_LEASE)
            with suppress(CatalogUnavailable, DiskFull):
                try:
                    await self._catalog.write(
                        claims.renew, segments, claimed.lease, self._lease_seconds
                    )
                except LeaseLost:
                    return


def _timing(marks: list[Mark]) -> Mapping[str, Any] | None:
    """What the engine itself says of when words are heard, if it does."""
    if not marks:
        return None
    return Timing("provider", tuple(marks)).to_json()
