"""What one call of an engine is about, and how each way it can end is written down.

What it cost is written in the transaction that writes what became of the segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundkeep.catalog import claims, money, speaking
from soundkeep.catalog.database import Tx
from soundkeep.catalog.money import IntentState, Outcome
from soundkeep.catalog.schema import segments
from soundkeep.catalog.speaking import Claimed, Noted
from soundkeep.copies.placement import Rules
from soundkeep.errors import (
    EngineAnsweredBadly,
    EngineError,
    EngineThrottled,
    EngineUnavailable,
    JailFailed,
    SoundkeepError,
    TakeRefused,
    WriteFailed,
)
from soundkeep.intake import recording
from soundkeep.intake.recording import Inbox
from soundkeep.intake.spool import Landed
from soundkeep.model import Blob, Lane, Money, Segment, Sound
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.interface import AudioFormat, Bill, Engine

# Of this machine too: what it cannot keep would be paid for again with each caller.
RETRYABLE = (
    EngineThrottled,
    EngineUnavailable,
    EngineAnsweredBadly,
    TakeRefused,
    WriteFailed,
    JailFailed,
)


@dataclass(frozen=True, slots=True)
class Take:
    """What an engine spoke, before it is kept."""

    path: Path
    sound: Sound
    asked: Asked
    format: AudioFormat | None  # that of `asked.format`
    bill: Bill


@dataclass(frozen=True, slots=True)
class Taken:
    """A take that lies whole in the inbox, and its bill."""

    landed: Landed
    bill: Bill


@dataclass(frozen=True, slots=True)
class Call:
    """What a call is about, and what it cost by each way it can end."""

    claimed: Claimed
    key: str
    engine: Engine
    asked: Asked

    def done(self, bill: Bill) -> Outcome:
        cost = Money.of(bill.cost, bill.currency)
        return Outcome(IntentState.DONE, cost, bill.characters, bill.request_id)

    def cost_nothing(self) -> Outcome:
        estimate = self.engine.estimate(self.asked)
        return Outcome(IntentState.FAILED, Money(0, estimate.currency or ""), 0)

    def failed(self, error: EngineError) -> Outcome:
        """What it may have cost stays reserved."""
        if error.charged is False:
            nothing = self.cost_nothing()
            return Outcome(nothing.state, nothing.cost, 0, error=str(error))
        state = IntentState.FAILED if error.charged else IntentState.UNKNOWN
        return Outcome(state, error=str(error))

    def unknown(self, error: SoundkeepError) -> Outcome:
        return Outcome(IntentState.UNKNOWN, error=str(error))

    def take(self, taken: Taken, sound: Sound) -> Take:
        format_ = self.engine.caps.format(self.asked.format)
        return Take(taken.landed.path, sound, self.asked, format_, taken.bill)

    def segment(self, blob: Blob, timing: Mapping[str, Any] | None, outcome: Outcome) -> Segment:
        return Segment(
            key=self.key,
            engine=self.asked.engine,
            model=self.asked.model,
            voice=self.asked.voice,
            owner=self.asked.owner,
            text=self.asked.text,
            digest=blob.digest,
            timing=timing,
            characters=outcome.characters or 0,
            cost=outcome.cost or Money(),
        )


def write_segment(
    tx: Tx,
    call: Call,
    outcome: Outcome,
    blob: Blob,
    timing: Mapping[str, Any] | None,
    inbox: Inbox,
    rules: Rules,
) -> bool:
    """The take is the segment from now on; answers whether its blob is still needed in the inbox.

    Raises `LeaseLost`, as the others do.
    """

    def name_it() -> None:
        speaking.keep(tx, call.claimed, outcome, digest=blob.digest, timing=timing)

    return recording.record_speech(
        tx, blob, name_it, inbox=inbox, rules=rules, lane=Lane.INTERACTIVE
    )


def write_error(tx: Tx, call: Call, error: SoundkeepError, outcome: Outcome) -> None:
    """It could not be spoken, or not be kept."""
    money.settle(tx, call.claimed.intent_id, outcome)
    noted = Noted(error.code, str(error), getattr(error, "retry_after", None) or 0.0)
    speaking.note_error(tx, call.claimed, noted, retryable=isinstance(error, RETRYABLE))


def write_refusal(
    tx: Tx, call: Call, outcome: Outcome, error: TakeRefused, reason: str, host: str, file: str
) -> None:
    """The take was refused, and lies aside as `file`."""
    money.settle(tx, call.claimed.intent_id, outcome)
    noted = Noted(error.code, str(error), 0.0)
    speaking.note_refused(
        tx, call.claimed, noted, key=call.key, reason=reason, host=host, file=file
    )


def write_broken_off(tx: Tx, call: Call, outcome: Outcome) -> None:
    """The call was left in the middle: whoever comes next may try."""
    money.settle(tx, call.claimed.intent_id, outcome)
    claims.release(tx, segments, call.claimed.lease)
