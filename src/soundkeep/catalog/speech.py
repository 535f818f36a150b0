"""Segments and speeches: what was said, and who is having it said now. `hits` counts how often.

A segment's row is the right to have it spoken: whoever claims it holds a lease (`claims.py`), and
the same transaction writes the intent that reserves the money (`money.py`). So of any number of
callers in any number of processes one calls the engine, and the others wait for the row.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import (
    Executable,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    update,
)

from soundkeep.catalog import claims, money, sidecars
from soundkeep.catalog.claims import Lease
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.money import Order, Outcome
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import (
    intents,
    now,
    refused_takes,
    segment_keys,
    segments,
    speech_keys,
    speech_tracks,
    speeches,
)
from soundkeep.digest import Digest
from soundkeep.errors import Conflict, Unplayable
from soundkeep.model import (
    Chore,
    Lane,
    Money,
    Segment,
    SegmentName,
    SegmentState,
    Subject,
    SubjectKind,
)

REST_SECONDS = 86400.0  # after takes that were refused
REFUSALS_UNTIL_REST = 2
PAGE = 500  # keys in one statement


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


@dataclass(frozen=True, slots=True)
class Worth:
    """Segments of one voice, and what they cost."""

    engine: str
    model: str
    voice: str
    count: int
    cost: Money


@dataclass(frozen=True, slots=True)
class Speech:
    """A list of segments in an output format."""

    key: str
    format: str
    segments: tuple[str, ...]  # their keys
    digest: Digest | None  # of its sound, once there is one
    script: Mapping[str, Any] | None  # as `speech.script` writes it
    hits: int


# Made once: building a statement costs more than running it.
_BY_KEY = select(segments).where(segments.c.key == bindparam("of_key"))
_BY_OTHER_KEY = (
    select(segments)
    .join(segment_keys, segment_keys.c.segment_key == segments.c.key)
    .where(segment_keys.c.other_key == bindparam("of_key"))
)
_NAMING = (
    select(segments.c.key, segments.c.revision)
    .where(segments.c.digest == bindparam("raw"))
    .union_all(
        select(null(), literal(0)).where(exists().where(speeches.c.digest == bindparam("raw")))
    )
)
_OF_KEY = segments.c.key == bindparam("of_key")
_RISE = (
    update(segments)
    .where(_OF_KEY)
    .values(revision=segments.c.revision + 1)
    .returning(segments.c.revision)
)
_NOTE_TIMING = _RISE.where(segments.c.digest == bindparam("raw")).values(
    timing=bindparam("found_out")
)
_TAKE = _BY_KEY.with_for_update()
_NOTE_REFUSED = insert(refused_takes).values(made_at=now())
_SPEECH_BY_KEY = select(speeches).where(speeches.c.key == bindparam("of_key"))
_SPEECH_BY_OTHER_KEY = (
    select(speeches)
    .join(speech_keys, speech_keys.c.speech_key == speeches.c.key)
    .where(speech_keys.c.other_key == bindparam("of_key"))
)


# --- looking --------------------------------------------------------------------------------


def find(tx: Tx, key: str) -> Segment | None:
    """The segment of this key, or of one that it is also known by, if it was spoken."""
    for query in (_BY_KEY, _BY_OTHER_KEY):
        row = tx.run(query, {"of_key": key}).first()
        if row is not None and row.digest is not None:
            return segment_of(row)
    return None


def find_all(tx: Tx, keys: Sequence[str], *, hold: bool = False) -> list[Segment]:
    """The segments of these keys, in order. Raises `Unplayable` if one is no more. With `hold` none
    can be withdrawn until the transaction ends."""
    rows: dict[str, AnyRow] = {}
    wanted = sorted(set(keys))  # held in the order in which hits are written
    for first in range(0, len(wanted), PAGE):
        page = select(segments).where(segments.c.key.in_(wanted[first : first + PAGE]))
        if hold:
            page = page.order_by(segments.c.key).with_for_update(read=True)
        rows |= {row.key: row for row in tx.run(page) if row.digest is not None}
    missing = [key for key in keys if key not in rows]
    if missing:
        raise Unplayable(f"the segment {missing[0]} is no more")
    return [segment_of(rows[key]) for key in keys]


def worth_of(tx: Tx, keys: Sequence[str]) -> list[Worth]:
    """What it would cost to have these segments spoken again, by who spoke them."""
    table = segments.c
    who = (table.engine, table.model, table.voice, table.currency)
    found: list[Worth] = []
    for first in range(0, len(keys), PAGE):
        page = set(keys[first : first + PAGE])
        sums = (func.count().label("number"), func.sum(table.cost_billionths).label("cost"))
        for row in tx.run(select(*who, *sums).where(table.key.in_(page)).group_by(*who)):
            cost = Money(int(row.cost or 0), row.currency or "")
            found.append(Worth(row.engine, row.model, row.voice, row.number, cost))
    return found


def naming(tx: Tx, digest: Digest) -> list[SegmentName]:
    """The names that speech gives a blob: one for each segment, and one if it is a speech."""
    return [SegmentName(row.key, row.revision) for row in tx.run(_NAMING, {"raw": digest.raw})]


def look(tx: Tx, key: str) -> Standing:
    """How a segment stands just now."""
    row = tx.run(_BY_KEY, {"of_key": key}).first()
    return _standing(row, tx.now()) if row is not None else None


def also_known_as(tx: Tx, key: str, others: Collection[str]) -> None:
    """Other keys that find the segment from now on; one that is taken stays whose it is."""
    rows = [{"other_key": other, "segment_key": key} for other in sorted(others)]
    if rows:
        naming = conflict_insert(segment_keys, on_postgresql=tx.on_postgresql)
        tx.run(naming.on_conflict_do_nothing(), rows)
        revision = tx.run(_RISE, {"of_key": key}).scalar()
        segment = find(tx, key)
        if segment is not None and revision is not None:
            _tell_sidecars(tx, segment, revision)


# --- having it spoken -----------------------------------------------------------------------


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


def note_timing(tx: Tx, segment: Segment, timing: Mapping[str, Any]) -> None:
    """When the words of a segment are heard is known now, unless it was spoken anew meanwhile."""
    given = {"of_key": segment.key, "raw": segment.digest.raw, "found_out": json.dumps(timing)}
    revision = tx.run(_NOTE_TIMING, given).scalar()
    if revision is not None:
        _tell_sidecars(tx, segment, revision)


def _tell_sidecars(tx: Tx, segment: Segment, revision: int) -> None:
    """More is known of a segment: its sidecars are to say so."""
    subject = Subject(SubjectKind.SEGMENT, segment.key)
    sidecars.follow(tx, segment.digest, subject, revision)


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


# --- withdrawing ----------------------------------------------------------------------------


def segments_of(tx: Tx, key: str) -> list[str]:
    """The keys of the segments that a key stands for: of a speech, or of one segment itself."""
    whole, one = find_speech(tx, key), find(tx, key)
    return [*dict.fromkeys((*(whole.segments if whole else ()), *([one.key] if one else ())))]


def made_of(tx: Tx, keys: Collection[str]) -> list[str]:
    """The keys of all speeches in which one of these is heard. It looks at every speech."""
    wanted, found = set(keys), []
    for row in tx.run(select(speeches.c.key, speeches.c.segments).order_by(speeches.c.key)):
        if not wanted.isdisjoint(json.loads(row.segments)):
            found.append(row.key)
    return found


def withdraw(tx: Tx, key: str) -> None:
    """The segment is as if it had never been spoken. Whatever it was refused for is forgotten."""
    tx.run(
        update(segments)
        .where(segments.c.key == key)
        .values(
            state=SegmentState.WANTED.value,
            digest=None,
            timing=None,
            refusals=0,
            chore=Chore.GENERATE.value,
            due_at=now(),
            last_error=None,
        )
    )
    tx.wakes = True


def withdraw_speech(tx: Tx, key: str) -> None:
    """The speech has no sound until it is asked for again."""
    tx.run(update(speeches).where(speeches.c.key == key).values(digest=None))


def tracks_of(tx: Tx, speech_key: str) -> list[str]:
    """The ids of all tracks that owners have of a speech."""
    ids = select(speech_tracks.c.track_id).where(speech_tracks.c.speech_key == speech_key)
    return list(tx.run(ids.order_by(speech_tracks.c.track_id)).scalars())


def forget_tracks(tx: Tx, speech_key: str) -> None:
    """No owner has a track of it any more."""
    tx.run(delete(speech_tracks).where(speech_tracks.c.speech_key == speech_key))


# --- speeches -------------------------------------------------------------------------------


def find_speech(tx: Tx, key: str) -> Speech | None:
    """The speech of this key, or of one that it is also known by, if it was ever asked for."""
    row = tx.run(_SPEECH_BY_KEY, {"of_key": key}).first()
    if row is None:
        row = tx.run(_SPEECH_BY_OTHER_KEY, {"of_key": key}).first()
    return speech_of(row) if row is not None else None


def record_speech(tx: Tx, speech: Speech) -> None:
    """Records a speech, or what is known of it by now; its hits are counted by `flush`."""
    known = {
        "digest": speech.digest.raw if speech.digest else None,
        "script": json.dumps(speech.script) if speech.script is not None else None,
    }
    row = conflict_insert(speeches, on_postgresql=tx.on_postgresql).values(
        key=speech.key,
        format=speech.format,
        segments=json.dumps(speech.segments),
        hits=0,
        created_at=now(),
        **known,
    )
    tx.run(row.on_conflict_do_update(index_elements=[speeches.c.key], set_=known))


def track_of(tx: Tx, speech_key: str, owner: str, collection: str) -> str | None:
    """The track that an owner has of a speech in a collection, by its id."""
    mine = and_(
        speech_tracks.c.speech_key == speech_key,
        speech_tracks.c.owner == owner,
        speech_tracks.c.collection == collection,
    )
    return tx.run(select(speech_tracks.c.track_id).where(mine)).scalar_one_or_none()


def note_track(tx: Tx, speech_key: str, owner: str, collection: str, track_id: str) -> None:
    """The owner's track of that speech in that collection is this one now."""
    row = conflict_insert(speech_tracks, on_postgresql=tx.on_postgresql).values(
        speech_key=speech_key, owner=owner, collection=collection, track_id=track_id
    )
    place = [speech_tracks.c.speech_key, speech_tracks.c.owner, speech_tracks.c.collection]
    tx.run(row.on_conflict_do_update(index_elements=place, set_={"track_id": track_id}))


# --- rows -----------------------------------------------------------------------------------


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


def segment_of(row: AnyRow) -> Segment:
    """A row of `segments` that has its sound."""
    return Segment(
        key=row.key,
        engine=row.engine,
        model=row.model,
        voice=row.voice,
        owner=row.owner,
        text=row.text,
        digest=Digest(bytes(row.digest)),
        timing=json.loads(row.timing) if row.timing is not None else None,
        characters=row.characters or 0,
        cost=Money(row.cost_billionths or 0, row.currency or ""),
    )


def speech_of(row: AnyRow) -> Speech:
    """A row of `speeches`."""
    return Speech(
        key=row.key,
        format=row.format,
        segments=tuple(json.loads(row.segments)),
        digest=Digest(bytes(row.digest)) if row.digest is not None else None,
        script=json.loads(row.script) if row.script is not None else None,
        hits=row.hits,
    )
