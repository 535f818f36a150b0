"""The items of plans: which is next, what it may cost, and what became of it.

An item is taken with a lease, in the transaction that counts its estimate against the plan's
budget: so of many workers no two take the same one, and all together never begin what the budget
has no room for. Afterwards its share is what the ledger's intents say (`money.py`): all that the
plan's owner paid for the segment since the item was first taken, calls that are `unknown` too. A
process that dies leaves a lease that runs out and an estimate that is counted until it is known.

The plan's row is always taken before an item's, so no two transactions wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, bindparam, exists, func, select, update

from soundkeep.catalog import claims
from soundkeep.catalog.claims import Lease
from soundkeep.catalog.database import Tx
from soundkeep.catalog.plans import WAITING, ItemState, PlanState, take_row
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import intents, now, plan_items, plans, segments
from soundkeep.errors import LeaseLost
from soundkeep.model import BILLION


@dataclass(frozen=True, slots=True)
class Taken:
    """An item that this process is to have spoken."""

    lease: Lease
    plan_id: str
    owner: str
    segment_key: str
    request: str
    begun_at: float


_ADVANCE = (
    update(plans)
    .where(plans.c.id == bindparam("of_plan"))
    .values(spent_billionths=plans.c.spent_billionths + bindparam("more"))
)


def take(tx: Tx, plan_id: str, *, holder: str, lease_seconds: float) -> Taken | float | None:
    """The next item of a plan, or seconds until there may be one, or None: it does not run.

    What the budget has no room for is not taken: then the plan is over its budget, or waits for
    what is in hand, since that may cost less than it might.
    """
    plan = take_row(tx, plan_id)
    clock = tx.now()
    if plan.state != PlanState.RUNNING.value:
        return None
    if plan.next_at > clock:
        return float(plan.next_at - clock)
    item = _next_item(tx, plan_id)
    if item is None:
        return _wait_or_end(tx, plan, clock)
    begun_at = clock if item.begun_at is None else item.begun_at
    estimate = 0 if _is_spoken(tx, item.segment_key) else item.estimate_billionths
    more = _paid(tx, plan.owner, item.segment_key, begun_at) + estimate - item.counted_billionths
    if estimate and _is_beyond(plan, more):
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


def rest(tx: Tx, taken: Taken, error: str, *, retry_after: float | None, of_engine: bool) -> None:
    """It may be spoken later. The plan rests too, on a curve of its own: what kept this item from
    being spoken may keep the others too. `retry_after` is the whole plan's if the engine said so
    of itself (`of_engine`), and not of this text."""
    plan = _settle(tx, taken)
    claims.fail(tx, plan_items, taken.lease, error, retry_after=retry_after)
    failures = plan.failures + 1
    rest_seconds = claims.delay_seconds(failures)
    if of_engine:
        rest_seconds = max(rest_seconds, retry_after or 0.0)
    resting = update(plans).where(plans.c.id == taken.plan_id)
    tx.run(resting.values(failures=failures, next_at=now() + rest_seconds, last_error=error[:500]))


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
    plan = take_row(tx, taken.plan_id)
    mine = and_(
        plan_items.c.id == taken.lease.row_id, plan_items.c.lease_token == taken.lease.token
    )
    before = tx.run(select(plan_items.c.counted_billionths).where(mine)).scalar_one_or_none()
    if before is None:
        raise LeaseLost
    paid = _paid(tx, taken.owner, taken.segment_key, taken.begun_at)
    _count(tx, taken.plan_id, taken.lease.row_id, before, paid - before)
    tx.wakes = True
    return plan


def _count(tx: Tx, plan_id: str, item_id: int, before: int, more: int, **values: object) -> None:
    of_item = update(plan_items).where(plan_items.c.id == item_id)
    tx.run(of_item.values(counted_billionths=before + more, **values))
    if more:
        tx.run(_ADVANCE, {"of_plan": plan_id, "more": more})


def _is_spoken(tx: Tx, segment_key: str) -> bool:
    """What is there, whoever paid for it, costs nothing more."""
    there = segments.c.key == segment_key, segments.c.digest.is_not(None)
    return bool(tx.run(select(exists().where(*there))).scalar_one())


def _is_beyond(plan: AnyRow, more: int) -> bool:
    budget = plan.budget_billionths
    return budget is not None and bool(plan.spent_billionths + more > budget)


def _wait_or_stop(tx: Tx, plan: AnyRow, item: AnyRow, clock: float) -> float | None:
    in_hand = and_(plan_items.c.lease_token.is_not(None), plan_items.c.due_at > clock)
    until = tx.run(
        select(func.min(plan_items.c.due_at)).where(
            plan_items.c.plan_id == plan.id, WAITING, in_hand
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


def _next_item(tx: Tx, plan_id: str) -> AnyRow | None:
    due = (
        select(plan_items)
        .where(plan_items.c.plan_id == plan_id, WAITING, plan_items.c.due_at <= now())
        .order_by(plan_items.c.place)
        .limit(1)
    )
    return tx.run(due.with_for_update(skip_locked=True)).first()


def _wait_or_end(tx: Tx, plan: AnyRow, clock: float) -> float | None:
    soonest = select(func.min(plan_items.c.due_at)).where(plan_items.c.plan_id == plan.id, WAITING)
    due_at = tx.run(soonest).scalar_one()
    if due_at is not None:
        return max(0.0, float(due_at - clock))
    _end_if_over(tx, plan)
    return None


def _end_if_over(tx: Tx, plan: AnyRow) -> None:
    """A plan with nothing left is done; a standing one waits for more."""
    if plan.standing:
        return
    left = exists().where(plan_items.c.plan_id == plan.id, WAITING)
    ended = update(plans).where(
        plans.c.id == plan.id, plans.c.state == PlanState.RUNNING.value, ~left
    )
    tx.run(ended.values(state=PlanState.DONE.value))
