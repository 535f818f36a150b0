"""Plans: what shall be spoken before anybody asks, one row for each segment, and what it may cost.

An item is taken with a lease, in the transaction that counts its estimate against the plan's
budget: so of many workers no two take the same one, and all together never begin what the budget
has no room for. Afterwards its share is what the ledger's intents say (`money.py`): all that the
plan's owner paid for the segment since the item was first taken, calls that are `unknown` too. A
process that dies leaves a lease that runs out and an estimate that is counted until it is known.

The plan's row is always taken before an item's, so no two transactions wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, bindparam, case, exists, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog import claims
from soundkeep.catalog.claims import Lease
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import (
    intents,
    now,
    plan_items,
    plan_speeches,
    plans,
    segments,
    speech_tracks,
    speeches,
)
from soundkeep.model import BILLION, Chore, Lane, Money

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
    sequence: Ordering
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
class Taken:
    """An item that this process is to have spoken."""

    lease: Lease
    plan_id: str
    owner: str
    segment_key: str
    request: str
    begun_at: float


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


_WAITING = plan_items.c.chore.is_not(None)
_ADVANCE = (
    update(plans)
    .where(plans.c.id == bindparam("of_plan"))
    .values(spent_billionths=plans.c.spent_billionths + bindparam("more"))
)


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
        "sequence": plan.sequence.value,
        "standing": plan.standing,
        "texts": 0,
        "state": plan.state.value,
        "failures": 0,
    }
    tx.run(insert(plans).values(next_at=now(), created_at=now(), **row))
    _add(tx, _take_plan(tx, plan.id), items)


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
    row = _take_plan(tx, plan_id)
    tx.run(update(plans).where(plans.c.id == plan_id).values(voices=json.dumps(list(voices))))
    seen = conflict_insert(plan_speeches, on_postgresql=tx.on_postgresql)
    tx.run(
        seen.on_conflict_do_nothing(),
        [{"plan_id": plan_id, "speech_key": key} for key in speech_keys],
    )
    _add(tx, row, items)


# --- working it off -------------------------------------------------------------------------


def take(tx: Tx, plan_id: str, *, holder: str, lease_seconds: float) -> Taken | float | None:
    """The next item of a plan, or seconds until there may be one, or None: it does not run.

    What the budget has no room for is not taken: then the plan is over its budget, or waits for
    what is in hand, since that may cost less than it might.
    """
    plan = _take_plan(tx, plan_id)
    clock = tx.now()
    if plan.state != PlanState.RUNNING.value:
        return None
    if plan.next_at > clock:
        return float(plan.next_at - clock)
    item = _next_item(tx, plan_id)
    if item is None:
        return _wait_or_end(tx, plan, clock)
    begun_at = clock if item.begun_at is None else item.begun_at
    more = _paid(tx, plan.owner, item.segment_key, begun_at) + item.estimate_billionths
    more -= item.counted_billionths
    if _is_beyond(plan, item, more):
        return _wait_or_stop(tx, plan, item, clock)
    [(lease, _)] = claims.lease_rows(
        tx, plan_items, plan_items.c.id == item.id, holder=holder, lease_seconds=lease_seconds
    )
    _count(tx, plan_id, item.id, item.counted_billionths, more, begun_at=begun_at)
    if plan.rate_per_minute is not None:
        spaced = update(plans).where(plans.c.id == plan_id)
        tx.run(spaced.values(next_at=clock + 60.0 / plan.rate_per_minute))
    return Taken(lease, plan_id, plan.owner, item.segment_key, item.request, begun_at)


def done(tx: Tx, taken: Taken) -> None:
    """It was spoken. Raises `LeaseLost`, as the others do, and then nothing was written."""
    plan = _settle(tx, taken)
    claims.finish(tx, plan_items, taken.lease, state=ItemState.DONE.value, chore=None, due_at=now())
    tx.run(update(plans).where(plans.c.id == taken.plan_id).values(failures=0, last_error=None))
    _end_if_over(tx, plan)


def failed(tx: Tx, taken: Taken, error: str) -> None:
    """It cannot be spoken as it was asked for: the others go on."""
    plan = _settle(tx, taken)
    claims.finish(
        tx,
        plan_items,
        taken.lease,
        state=ItemState.FAILED.value,
        chore=None,
        last_error=error[:500],
        due_at=now(),
    )
    _end_if_over(tx, plan)


def rest(tx: Tx, taken: Taken, error: str, *, retry_after: float | None, whole_plan: bool) -> None:
    """It may be spoken later. With `whole_plan` nothing else of the plan is tried before: what
    kept this item from being spoken would keep the others too."""
    plan = _settle(tx, taken)
    claims.fail(tx, plan_items, taken.lease, error, retry_after=retry_after)
    if whole_plan:
        failures = plan.failures + 1
        pause_seconds = max(claims.delay_seconds(failures), retry_after or 0.0)
        resting = update(plans).where(plans.c.id == taken.plan_id)
        tx.run(
            resting.values(failures=failures, next_at=now() + pause_seconds, last_error=error[:500])
        )


def stop(tx: Tx, taken: Taken, why: str) -> None:
    """The purse of its owner has no room for it: the plan is over its budget."""
    plan = _settle(tx, taken)
    claims.release(tx, plan_items, taken.lease)
    _stop(tx, plan, why)


def give_back(tx: Tx, taken: Taken) -> None:
    """It was not begun, or goes on without us: whoever comes next finds out."""
    _settle(tx, taken)
    claims.release(tx, plan_items, taken.lease)


# --- money ----------------------------------------------------------------------------------


def _paid(tx: Tx, owner: str, segment_key: str, since: float) -> int:
    """What the owner paid for the segment since then, or may have."""
    mine = select(func.coalesce(func.sum(intents.c.cost_billionths), 0)).where(
        intents.c.segment_key == segment_key,
        intents.c.owner == owner,
        intents.c.made_at >= since,
    )
    return int(tx.run(mine).scalar_one())


def _settle(tx: Tx, taken: Taken) -> AnyRow:
    """What is known of the cost stands in place of the estimate. Answers the plan."""
    plan = _take_plan(tx, taken.plan_id)
    counted = select(plan_items.c.counted_billionths).where(plan_items.c.id == taken.lease.row_id)
    before = int(tx.run(counted).scalar_one())
    paid = _paid(tx, taken.owner, taken.segment_key, taken.begun_at)
    _count(tx, taken.plan_id, taken.lease.row_id, before, paid - before)
    tx.wakes = True
    return plan


def _count(tx: Tx, plan_id: str, item_id: int, before: int, more: int, **values: object) -> None:
    of_item = update(plan_items).where(plan_items.c.id == item_id)
    tx.run(of_item.values(counted_billionths=before + more, **values))
    if more:
        tx.run(_ADVANCE, {"of_plan": plan_id, "more": more})


def _is_beyond(plan: AnyRow, item: AnyRow, more: int) -> bool:
    """What costs nothing is within every budget."""
    if plan.budget_billionths is None or not item.estimate_billionths:
        return False
    return bool(plan.spent_billionths + more > plan.budget_billionths)


def _wait_or_stop(tx: Tx, plan: AnyRow, item: AnyRow, clock: float) -> float | None:
    in_hand = and_(plan_items.c.lease_token.is_not(None), plan_items.c.due_at > clock)
    until = tx.run(
        select(func.min(plan_items.c.due_at)).where(
            plan_items.c.plan_id == plan.id, _WAITING, in_hand
        )
    ).scalar_one()
    if until is not None:
        return float(until - clock)
    _stop(
        tx,
        plan,
        f"{plan.spent_billionths / BILLION:.4f} of {plan.budget_billionths / BILLION:.4f} "
        f"{plan.currency} are spent, and the next segment may cost "
        f"{item.estimate_billionths / BILLION:.4f} {plan.currency}",
    )
    return None


def _stop(tx: Tx, plan: AnyRow, why: str) -> None:
    running_still = and_(plans.c.id == plan.id, plans.c.state == PlanState.RUNNING.value)
    over = update(plans).where(running_still)
    tx.run(over.values(state=PlanState.OVER_BUDGET.value, last_error=why[:500]))


# --- rows -----------------------------------------------------------------------------------


def _take_plan(tx: Tx, plan_id: str) -> AnyRow:
    return tx.run(select(plans).where(plans.c.id == plan_id).with_for_update()).one()


def _next_item(tx: Tx, plan_id: str) -> AnyRow | None:
    due = (
        select(plan_items)
        .where(plan_items.c.plan_id == plan_id, _WAITING, plan_items.c.due_at <= now())
        .order_by(plan_items.c.place)
        .limit(1)
    )
    return tx.run(due.with_for_update(skip_locked=True)).first()


def _wait_or_end(tx: Tx, plan: AnyRow, clock: float) -> float | None:
    soonest = select(func.min(plan_items.c.due_at)).where(plan_items.c.plan_id == plan.id, _WAITING)
    due_at = tx.run(soonest).scalar_one()
    if due_at is not None:
        return max(0.0, float(due_at - clock))
    _end_if_over(tx, plan)
    return None


def _end_if_over(tx: Tx, plan: AnyRow) -> None:
    """A plan with nothing left is done; a standing one waits for more."""
    if plan.standing:
        return
    left = exists().where(plan_items.c.plan_id == plan.id, _WAITING)
    ended = update(plans).where(
        plans.c.id == plan.id, plans.c.state == PlanState.RUNNING.value, ~left
    )
    tx.run(ended.values(state=PlanState.DONE.value))


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
        plan_items.c.plan_id == plan_id, _WAITING, there.correlate(plan_items).exists()
    )
    tx.run(waiting.values(state=ItemState.DONE.value, chore=None))


def _item_row(plan: AnyRow, item: NewItem) -> Mapping[str, object]:
    number = plan.texts + item.text_number
    by_text = plan.sequence == Ordering.TEXT.value
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
    ordered, found = sorted(keys), {}
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
            total(plan_items.c.estimate_billionths, _WAITING, "left_billionths"),
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
        sequence=Ordering(row.sequence),
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
