"""Who is having a segment spoken just now, what came of it, and that it is paid for once.

A segment's row is the right to have it spoken: whoever claims it holds a lease (`claims.py`), and
the same transaction writes the intent that reserves the money (`money.py`). So of any number of
callers in any number of processes one calls the engine, and the others wait for the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import Executable, exists, insert, update

from soundkeep.catalog import claims, money
from soundkeep.catalog.claims import Lease
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.money import Order, Outcome
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import intents, now, refused_takes, segments
from soundkeep.catalog.segments import BY_KEY, segment_of
from soundkeep.digest import Digest
from soundkeep.errors import Conflict
from soundkeep.model import Chore, Lane, Money, Segment, SegmentState

REST_SECONDS = 86400.0  # after takes that were refused
REFUSALS_UNTIL_REST = 2


@dataclass(frozen=True, slots=True)
class Requested:
    """A segment that somebody wants, with all that its row must know before it is spoken."""

    key: str
    request: str  # the canonical JSON of which the key was made
    engine: str
    model: str
    voice: str
    owner: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody is having it spoken."""

    token: str
    holder: str


@dataclass(frozen=True, slots=True)
class Noted:
    """It could not be had, or not as it should sound. For `seconds` nobody is asked again."""

    code: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """This process is to have it spoken; the money for it is reserved."""

    lease: Lease
    intent_id: int


Standing: TypeAlias = Segment | Held | Noted | None  # None: nobody has asked yet, or has it now

# Made once: building a statement costs more than running it.
_TAKE = BY_KEY.with_for_update()
_NOTE_REFUSED = insert(refused_takes).values(made_at=now())


def look(tx: Tx, key: str) -> Standing:
    """How a segment stands just now."""
    row = tx.run(BY_KEY, {"of_key": key}).first()
    return _standing(row, tx.now()) if row is not None else None


def want(
    tx: Tx, wish: Requested, order: Order, *, holder: str, lease_seconds: float
) -> Segment | Held | Noted | Claimed:
    """Claims the segment for this process and reserves the money, if nobody has and it may be.

    Raises `OverBudget`, and then nothing was written.
    """
    _record(tx, wish)
    row = tx.run(_TAKE, {"of_key": wish.key}).one()
    clock = tx.now()
    standing = _standing(row, clock)
    if standing is not None and not (isinstance(standing, Noted) and not standing.seconds):
        return standing
    [(lease, _)] = claims.lease_rows(
        tx, segments, segments.c.id == row.id, holder=holder, lease_seconds=lease_seconds
    )
    _begin_anew(tx, row)
    money.forsake(tx, wish.key)
    intent_id = money.reserve(tx, order, holder=holder, lease_token=lease.token)
    return Claimed(lease, intent_id)


def keep(
    tx: Tx,
    claimed: Claimed,
    outcome: Outcome,
    *,
    digest: Digest,
    timing: Mapping[str, Any] | None,
) -> None:
    """The take is the segment from now on. Raises `LeaseLost`, and then nothing was written."""
    claims.finish(
        tx,
        segments,
        claimed.lease,
        state=SegmentState.PRESENT.value,
        digest=digest.raw,
        revision=segments.c.revision + 1,
        timing=json.dumps(timing) if timing is not None else None,
        characters=outcome.characters,
        cost_billionths=outcome.cost.billionths if outcome.cost else 0,
        currency=outcome.cost.currency if outcome.cost else "",
        refusals=0,
        chore=None,
        due_at=now(),
    )
    money.settle(tx, claimed.intent_id, outcome)
    tx.wakes = True


def note_error(tx: Tx, claimed: Claimed, error: Noted, *, retryable: bool) -> None:
    """It could not be spoken. If that may pass, nobody is asked again for a while that grows.

    Raises `LeaseLost`.
    """
    told = _written(error)
    tx.wakes = True
    if retryable:
        claims.fail(tx, segments, claimed.lease, told, retry_after=error.seconds)
    else:
        claims.finish(tx, segments, claimed.lease, last_error=told, due_at=now())


def note_refused(
    tx: Tx, claimed: Claimed, error: Noted, *, key: str, reason: str, host: str, file: str
) -> None:
    """The judge refused the take, which is kept aside; after two the key rests for a day.

    Raises `LeaseLost`.
    """
    tx.run(_NOTE_REFUSED, {"segment_key": key, "reason": reason, "host": host, "file": file})
    refusals = tx.run(_TAKE, {"of_key": key}).one().refusals + 1
    rests = refusals >= REFUSALS_UNTIL_REST
    claims.finish(
        tx,
        segments,
        claimed.lease,
        state=(SegmentState.RESTING if rests else SegmentState.WANTED).value,
        chore=None if rests else Chore.GENERATE.value,
        refusals=refusals,
        last_error=_written(error),
        due_at=tx.now() + (REST_SECONDS if rests else 0.0),
    )
    tx.wakes = True


def accept(tx: Tx, key: str, *, digest: Digest, characters: int, cost: Money | None) -> None:
    """A take that was refused is the segment after all. Raises `Conflict` if there is another by
    now, or somebody is having it spoken; then nothing was written."""
    row = tx.run(_TAKE, {"of_key": key}).one()
    standing = _standing(row, tx.now())
    if isinstance(standing, Segment | Held):
        now_so = "there by now" if isinstance(standing, Segment) else "being spoken"
        raise Conflict(f"the segment {key} is {now_so}")
    tx.run(
        update(segments)
        .where(segments.c.id == row.id)
        .values(
            state=SegmentState.PRESENT.value,
            digest=digest.raw,
            revision=segments.c.revision + 1,
            timing=None,
            characters=characters,
            cost_billionths=cost.billionths if cost else 0,
            currency=cost.currency if cost else "",
            refusals=0,
            chore=None,
            due_at=now(),
            lease_token=None,
            lease_holder=None,
            last_error=None,
        )
    )
    tx.wakes = True


def forsake_expired(tx: Tx) -> int:
    """What was left open by those whose lease ran out is `unknown`, also where nobody asks again.

    (Who still has the lease has its outcome to come.)
    """
    held = exists().where(
        segments.c.key == intents.c.segment_key,
        segments.c.lease_token == intents.c.lease_token,
        segments.c.due_at > now(),
    )
    return money.forsake_where(tx, ~held)


def release_dead(tx: Tx, host: str) -> int:
    """Frees what dead processes of this host were having spoken; what it cost is `unknown`."""
    money.forsake_dead(tx, host)
    return claims.release_dead_holders(tx, segments, host)


def _record(tx: Tx, wish: Requested) -> None:
    row = {
        "key": wish.key,
        "request": wish.request,
        "engine": wish.engine,
        "model": wish.model,
        "voice": wish.voice,
        "owner": wish.owner,
        "text": wish.text,
    }
    tx.run(_recording(tx.on_postgresql), row)


@cache
def _recording(on_postgresql: bool) -> Executable:
    row = conflict_insert(segments, on_postgresql=on_postgresql).values(
        state=SegmentState.WANTED.value,
        hits=0,
        refusals=0,
        created_at=now(),
        chore=Chore.GENERATE.value,
        lane=Lane.INTERACTIVE.value,
        due_at=now(),
        attempts=0,
    )
    recording: Executable = row.on_conflict_do_nothing()
    return recording


def _begin_anew(tx: Tx, row: AnyRow) -> None:
    """What was noted before is no more; one that has rested may be refused twice again."""
    rested = row.state == SegmentState.RESTING
    tx.run(
        update(segments)
        .where(segments.c.id == row.id)
        .values(
            state=SegmentState.WANTED.value,
            chore=Chore.GENERATE.value,
            refusals=0 if rested else row.refusals,
            last_error=None,
        )
    )


def _standing(row: AnyRow, clock: float) -> Standing:
    if row.digest is not None:
        return segment_of(row)
    if row.lease_token is not None and row.due_at > clock:
        return Held(row.lease_token, row.lease_holder)
    if row.lease_token is None and row.last_error is not None:
        code, _, message = row.last_error.partition(": ")
        return Noted(code, message, max(0.0, row.due_at - clock))
    return None


def _written(error: Noted) -> str:
    """As `_standing` reads it. (PostgreSQL has no text with a NUL.)"""
    return f"{error.code}: {error.message}".replace("\x00", "")[:500]
