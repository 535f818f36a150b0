"""Plans: what shall be spoken before anybody asks for it, and how far that is.

A plan is one row, and one for each segment in each voice. `plan_items.py` works them off.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import case, exists, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog import claims
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import (
    now,
    plan_items,
    plan_speeches,
    plans,
    segments,
    speech_tracks,
    speeches,
)
from soundkeep.model import Chore, Lane, Money

MAX_VOICES = 1000
MAX_TEXTS = 10**12
KEYS_AT_ONCE = 1000


class PlanState(StrEnum):
    """How a plan stands."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    OVER_BUDGET = "over budget"
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    """How one segment of a plan stands."""

    WANTED = "wanted"
    DONE = "done"
    FAILED = "failed"  # it cannot be spoken as it was asked for


class Ordering(StrEnum):
    """Which items come first."""

    TEXT = "text"  # all voices of the first text
    POPULAR = "popular"  # all texts of the first voice


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a plan is."""

    segments: int = 0
    done: int = 0
    failed: int = 0
    characters: int = 0
    characters_done: int = 0
    left: Money = Money()  # noqa: RUF009 - a frozen value; what the rest may cost


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan as the ledger has it."""

    id: str
    owner: str
    name: str
    engine: str
    model: str
    request: str  # the canonical request of its items, but for the text and the voice
    format: str
    voices: tuple[str, ...]
    collection: str | None
    budget: Money | None
    spent: Money
    rate_per_minute: float | None
    window: str | None
    order: Ordering
    standing: bool
    state: PlanState
    error: str | None
    created_at: float
    progress: Progress = Progress()


@dataclass(frozen=True, slots=True)
class NewItem:
    """A segment that a plan shall have spoken: the `text_number`-th text, in one of its voices."""

    segment_key: str
    request: str
    text_number: int
    voice_number: int
    characters: int
    estimate: Money


@dataclass(frozen=True, slots=True)
class Failing:
    """One item that could not be spoken, or not yet."""

    segment_key: str
    state: ItemState
    error: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A speech of a collection, and the texts of its segments."""

    speech_key: str
    texts: tuple[str, ...]


WAITING = plan_items.c.chore.is_not(None)


# --- making and looking ---------------------------------------------------------------------


def make(tx: Tx, plan: Plan, items: Sequence[NewItem]) -> None:
    """Writes a plan and its items. What was spoken before is done already."""
    budget = plan.budget
    row = {
        "id": plan.id,
        "owner": plan.owner,
        "name": plan.name,
        "engine": plan.engine,
        "model": plan.model,
        "request": plan.request,
        "format": plan.format,
        "voices": json.dumps(plan.voices),
        "collection": plan.collection,
        "budget_billionths": budget.billionths if budget else None,
        "spent_billionths": 0,
        "currency": plan.spent.currency,
        "rate_per_minute": plan.rate_per_minute,
        "window": plan.window,
        "ordering": plan.order.value,
        "standing": plan.standing,
        "texts": 0,
        "state": plan.state.value,
        "failures": 0,
    }
    tx.run(insert(plans).values(next_at=now(), created_at=now(), **row))
    _add(tx, take_row(tx, plan.id), items)


def find(tx: Tx, plan_id: str) -> Plan | None:
    """A plan and how far it is."""
    row = tx.run(select(plans).where(plans.c.id == plan_id)).first()
    return _with_progress(tx, [row])[0] if row is not None else None


def page(tx: Tx, *, owner: str | None, after: str | None, limit: int) -> list[Plan]:
    """Plans and how far each is, the newest first."""
    rows = select(plans).order_by(plans.c.id.desc()).limit(limit)
    if owner is not None:
        rows = rows.where(plans.c.owner == owner)
    if after is not None:
        rows = rows.where(plans.c.id < after)
    return _with_progress(tx, list(tx.run(rows)))


def running(tx: Tx) -> tuple[float, list[Plan]]:
    """The clock, and every plan that may have something to do."""
    rows = select(plans).where(plans.c.state == PlanState.RUNNING.value).order_by(plans.c.id)
    return tx.now(), [_plan_of(row) for row in tx.run(rows)]


def failing(tx: Tx, plan_id: str, limit: int) -> list[Failing]:
    """Items that could not be spoken, or whose last attempt failed, in the plan's order."""
    rows = (
        select(plan_items.c.segment_key, plan_items.c.state, plan_items.c.last_error)
        .where(plan_items.c.plan_id == plan_id, plan_items.c.last_error.is_not(None))
        .order_by(plan_items.c.place)
        .limit(limit)
    )
    return [Failing(row.segment_key, ItemState(row.state), row.last_error) for row in tx.run(rows)]


# --- changing -------------------------------------------------------------------------------


def pause(tx: Tx, plan_id: str) -> bool:
    """Nothing more is begun; answers whether there is such a plan that has not ended."""
    may = (PlanState.RUNNING, PlanState.PAUSED, PlanState.OVER_BUDGET)
    return _turn(tx, plan_id, PlanState.PAUSED, may)


def cancel(tx: Tx, plan_id: str) -> bool:
    """Nothing is begun ever again; what was spoken is kept. Answers whether there is the plan."""
    return _turn(tx, plan_id, PlanState.CANCELLED, tuple(PlanState))


def resume(tx: Tx, plan_id: str, budget: Money | None) -> bool:
    """Goes on, also with what failed, under another budget if one is given; answers as `pause`."""
    may = tuple(state for state in PlanState if state is not PlanState.CANCELLED)
    if not _turn(tx, plan_id, PlanState.RUNNING, may):
        return False
    anew: dict[str, Any] = {"next_at": now(), "failures": 0, "last_error": None}
    if budget is not None:
        anew["budget_billionths"] = budget.billionths
    tx.run(update(plans).where(plans.c.id == plan_id).values(**anew))
    mine = plan_items.c.plan_id == plan_id
    failed = update(plan_items).where(mine, plan_items.c.state == ItemState.FAILED.value)
    tx.run(failed.values(state=ItemState.WANTED.value, chore=Chore.GENERATE.value, last_error=None))
    claims.make_due(tx, plan_items, mine)
    return True


def note(tx: Tx, plan_id: str, why: str) -> None:
    """Why nothing is begun just now."""
    tx.run(update(plans).where(plans.c.id == plan_id).values(last_error=why[:500]))


def new_texts(tx: Tx, plan: Plan, limit: int) -> list[Heard]:
    """What the plan's owner heard in its collection and the plan has not taken up yet."""
    known = exists().where(
        plan_speeches.c.plan_id == plan.id,
        plan_speeches.c.speech_key == speech_tracks.c.speech_key,
    )
    rows = (
        select(speeches.c.key, speeches.c.segments)
        .join(speech_tracks, speech_tracks.c.speech_key == speeches.c.key)
        .where(speech_tracks.c.collection == plan.collection, speech_tracks.c.owner == plan.owner)
        .where(~known)
        .order_by(speeches.c.created_at, speeches.c.key)
        .limit(limit)
    )
    found = {row.key: tuple(json.loads(row.segments)) for row in tx.run(rows)}
    texts = _texts_of(tx, {key for keys in found.values() for key in keys})
    return [
        Heard(speech, tuple(texts[key] for key in keys if key in texts))
        for speech, keys in found.items()
    ]


def take_up(
    tx: Tx,
    plan_id: str,
    voices: Sequence[str],
    items: Sequence[NewItem],
    speech_keys: Iterable[str],
) -> None:
    """New texts of a standing plan; what it has already it does not get twice."""
    row = take_row(tx, plan_id)
    tx.run(update(plans).where(plans.c.id == plan_id).values(voices=json.dumps(list(voices))))
    seen = conflict_insert(plan_speeches, on_postgresql=tx.on_postgresql)
    tx.run(
        seen.on_conflict_do_nothing(),
        [{"plan_id": plan_id, "speech_key": key} for key in speech_keys],
    )
    _add(tx, row, items)


# --- rows -----------------------------------------------------------------------------------


def take_row(tx: Tx, plan_id: str) -> AnyRow:
    return tx.run(select(plans).where(plans.c.id == plan_id).with_for_update()).one()


def _turn(tx: Tx, plan_id: str, to: PlanState, may: Collection[PlanState]) -> bool:
    states = [state.value for state in may]
    turned = update(plans).where(plans.c.id == plan_id, plans.c.state.in_(states))
    tx.wakes = True
    return tx.run(turned.values(state=to.value)).rowcount == 1


def _add(tx: Tx, plan: AnyRow, items: Sequence[NewItem]) -> None:
    if not items:
        return
    row = conflict_insert(plan_items, on_postgresql=tx.on_postgresql).values(
        plan_id=plan.id,
        counted_billionths=0,
        state=ItemState.WANTED.value,
        chore=Chore.GENERATE.value,
        lane=Lane.BULK.value,
        due_at=now(),
        attempts=0,
    )
    tx.run(row.on_conflict_do_nothing(), [_item_row(plan, item) for item in items])
    texts = plan.texts + 1 + max(item.text_number for item in items)
    tx.run(update(plans).where(plans.c.id == plan.id).values(texts=texts))
    _mark_spoken(tx, plan.id)
    tx.wakes = True


def _mark_spoken(tx: Tx, plan_id: str) -> None:
    """What is there already costs nothing, and not a minute of the plan's rate."""
    there = select(segments.c.key).where(
        segments.c.key == plan_items.c.segment_key, segments.c.digest.is_not(None)
    )
    waiting = update(plan_items).where(
        plan_items.c.plan_id == plan_id, WAITING, there.correlate(plan_items).exists()
    )
    tx.run(waiting.values(state=ItemState.DONE.value, chore=None))


def _item_row(plan: AnyRow, item: NewItem) -> Mapping[str, object]:
    number = plan.texts + item.text_number
    by_text = plan.ordering == Ordering.TEXT.value
    return {
        "segment_key": item.segment_key,
        "request": item.request,
        "place": number * MAX_VOICES + item.voice_number
        if by_text
        else item.voice_number * MAX_TEXTS + number,
        "characters": item.characters,
        "estimate_billionths": item.estimate.billionths,
    }


def _texts_of(tx: Tx, keys: Collection[str]) -> dict[str, str]:
    """By the thousand: a statement takes 32,766 values on SQLite."""
    ordered = sorted(keys)
    found: dict[str, str] = {}
    for start in range(0, len(ordered), KEYS_AT_ONCE):
        some = segments.c.key.in_(ordered[start : start + KEYS_AT_ONCE])
        rows = tx.run(select(segments.c.key, segments.c.text).where(some))
        found |= {row.key: row.text for row in rows}
    return found


def _with_progress(tx: Tx, rows: Sequence[AnyRow]) -> list[Plan]:
    far = _progress(tx, plan_items.c.plan_id.in_([row.id for row in rows]))
    return [_plan_of(row, far.get(row.id)) for row in rows]


def _progress(tx: Tx, which: ColumnElement[bool]) -> dict[str, AnyRow]:
    is_done = plan_items.c.state == ItemState.DONE.value
    is_failed = plan_items.c.state == ItemState.FAILED.value

    def total(of: Any, where: ColumnElement[bool], name: str) -> Any:
        return func.coalesce(func.sum(case((where, of), else_=0)), 0).label(name)

    rows = (
        select(
            plan_items.c.plan_id,
            func.count().label("segments"),
            total(1, is_done, "done"),
            total(1, is_failed, "failed"),
            func.sum(plan_items.c.characters).label("characters"),
            total(plan_items.c.characters, is_done, "characters_done"),
            total(plan_items.c.estimate_billionths, WAITING, "left_billionths"),
        )
        .where(which)
        .group_by(plan_items.c.plan_id)
    )
    return {row.plan_id: row for row in tx.run(rows)}


def _plan_of(row: AnyRow, far: AnyRow | None = None) -> Plan:
    budget = row.budget_billionths
    return Plan(
        id=row.id,
        owner=row.owner,
        name=row.name,
        engine=row.engine,
        model=row.model,
        request=row.request,
        format=row.format,
        voices=tuple(json.loads(row.voices)),
        collection=row.collection,
        budget=None if budget is None else Money(budget, row.currency),
        spent=Money(row.spent_billionths, row.currency),
        rate_per_minute=row.rate_per_minute,
        window=row.window,
        order=Ordering(row.ordering),
        standing=row.standing,
        state=PlanState(row.state),
        error=row.last_error,
        created_at=row.created_at,
        progress=_progress_of(far, row.currency) if far is not None else Progress(),
    )


def _progress_of(far: AnyRow, currency: str) -> Progress:
    return Progress(
        segments=int(far.segments),
        done=int(far.done),
        failed=int(far.failed),
        characters=int(far.characters),
        characters_done=int(far.characters_done),
        left=Money(int(far.left_billionths), currency),
    )
