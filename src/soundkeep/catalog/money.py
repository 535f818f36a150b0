"""Money: an intent before every call of an engine, an outcome after it, and the budget between.

An intent's cost is its estimate until the outcome is known, and stays that when it never will be:
so what an owner has spent in a month is the sum over its intents, open and `unknown` ones too. The
purse keeps that sum, changed in the same transaction as the intent; its row is taken first, so that
of many calls at once no more are allowed than the budget has room for.

Each currency is a purse of its own, and a budget counts in each by itself: nothing is converted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from sqlalchemy import Executable, and_, bindparam, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog import claims
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import intents, now, purses
from soundkeep.errors import OverBudget
from soundkeep.model import BILLION, Money


class IntentState(StrEnum):
    """What became of a call."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"  # nobody can say whether it was charged


@dataclass(frozen=True, slots=True)
class Order:
    """A call that is about to be made, and what it may cost."""

    segment_key: str
    engine: str
    model: str
    voice: str
    owner: str  # who pays
    characters: int
    estimate: Money
    budget: Money | None  # of the owner's month; None: no limit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call. A cost of None leaves the estimate in place."""

    state: IntentState
    cost: Money | None = None
    characters: int | None = None
    request_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """One call of an engine, as the ledger has it."""

    id: int
    segment_key: str
    engine: str
    model: str
    voice: str
    owner: str
    month: str
    state: IntentState
    characters: int
    cost: Money
    request_id: str | None
    error: str | None
    made_at: float
    ended_at: float | None


# Made once: building a statement costs more than running it.
_MINE = and_(
    purses.c.owner == bindparam("of_owner"),
    purses.c.month == bindparam("of_month"),
    purses.c.currency == bindparam("of_currency"),
)
_TAKE_PURSE = select(purses.c.spent_billionths).where(_MINE).with_for_update()
_SPEND = (
    update(purses)
    .where(_MINE)
    .values(spent_billionths=purses.c.spent_billionths + bindparam("more"))
)
_RESERVE = (
    insert(intents).values(made_at=now(), state=IntentState.OPEN.value).returning(intents.c.id)
)
_TAKE_INTENT = select(intents).where(intents.c.id == bindparam("of_id")).with_for_update()


def reserve(tx: Tx, order: Order, *, holder: str, lease_token: str) -> int:
    """Writes the intent and answers its id. Raises `OverBudget`, and then nothing may be called."""
    month = month_of(tx.now())
    spent = _take_purse(tx, order.owner, month, order.estimate.currency)
    _check(order, spent)
    _spend(tx, order.owner, month, order.estimate)
    row = {
        "segment_key": order.segment_key,
        "engine": order.engine,
        "model": order.model,
        "voice": order.voice,
        "owner": order.owner,
        "month": month,
        "currency": order.estimate.currency,
        "holder": holder,
        "lease_token": lease_token,
        "characters": order.characters,
        "estimate_billionths": order.estimate.billionths,
        "cost_billionths": order.estimate.billionths,
    }
    return int(tx.run(_RESERVE, row).scalar_one())


def settle(tx: Tx, intent_id: int, outcome: Outcome) -> None:
    """Writes the outcome; of one that was `unknown` too, since now it is known."""
    row = tx.run(_TAKE_INTENT, {"of_id": intent_id}).one()
    if row.state not in (IntentState.OPEN, IntentState.UNKNOWN):
        return
    reserved = Money(row.cost_billionths, row.currency)
    cost = reserved if outcome.cost is None else outcome.cost
    _correct(tx, row, reserved, cost)
    values: dict[str, object] = {
        "state": outcome.state.value,
        "cost_billionths": cost.billionths,
        "currency": cost.currency,
        "request_id": outcome.request_id,
        "error": outcome.error,
        "ended_at": now(),
    }
    if outcome.characters is not None:
        values["characters"] = outcome.characters
    tx.run(update(intents).where(intents.c.id == intent_id).values(**values))


def forsake(tx: Tx, segment_key: str) -> int:
    """What was still open for this segment is `unknown`: its holder's lease ran out."""
    return forsake_where(tx, intents.c.segment_key == segment_key)


def forsake_dead(tx: Tx, host: str) -> int:
    """What dead processes of this host left open is `unknown`; answers how many calls."""
    held_here = intents.c.holder.startswith(f"{host}/", autoescape=True)
    still_open = and_(held_here, intents.c.state == IntentState.OPEN.value)
    holders = tx.run(select(intents.c.holder).where(still_open).distinct()).scalars()
    dead = [holder for holder in holders if not claims.is_alive(holder)]
    return forsake_where(tx, intents.c.holder.in_(dead)) if dead else 0


def forsake_where(tx: Tx, which: ColumnElement[bool]) -> int:
    """What is open of these is `unknown`; answers how many calls."""
    still_open = and_(which, intents.c.state == IntentState.OPEN.value)
    given_up = update(intents).where(still_open)
    return tx.run(given_up.values(state=IntentState.UNKNOWN.value, ended_at=now())).rowcount


def spent(tx: Tx, owner: str, month: str) -> dict[str, Money]:
    """What an owner has spent in a month, or may have, by currency."""
    mine = select(purses).where(purses.c.owner == owner, purses.c.month == month)
    return {row.currency: Money(row.spent_billionths, row.currency) for row in tx.run(mine)}


def of_segment(tx: Tx, segment_key: str) -> list[Intent]:
    """Every call that was made for a segment, in order."""
    rows = select(intents).where(intents.c.segment_key == segment_key).order_by(intents.c.id)
    return [_intent_of(row) for row in tx.run(rows)]


def counted(tx: Tx, owner: str | None = None) -> dict[IntentState, int]:
    """How many calls there were, by what became of them; of one owner, or of all."""
    rows = select(intents.c.state, func.count().label("calls")).group_by(intents.c.state)
    if owner is not None:
        rows = rows.where(intents.c.owner == owner)
    found: Mapping[str, int] = {row.state: row.calls for row in tx.run(rows)}
    return {state: found.get(state.value, 0) for state in IntentState}


def month_of(clock: float) -> str:
    """As `2026-11`, in UTC."""
    return time.strftime("%Y-%m", time.gmtime(clock))


def _check(order: Order, spent_billionths: int) -> None:
    """A call that costs nothing is within every budget."""
    if order.budget is None or not order.estimate.billionths:
        return
    if spent_billionths + order.estimate.billionths > order.budget.billionths:
        currency = order.estimate.currency
        raise OverBudget(
            f"{order.owner} has spent {spent_billionths / BILLION:.4f} of "
            f"{order.budget.amount:.4f} {currency} this month, and this would cost up to "
            f"{order.estimate.amount:.4f} {currency}",
            owner=order.owner,
        )


def _take_purse(tx: Tx, owner: str, month: str, currency: str) -> int:
    """Takes the row of the purse until the transaction ends, and answers what was spent."""
    tx.run(_open_purse(tx.on_postgresql), {"owner": owner, "month": month, "currency": currency})
    return int(tx.run(_TAKE_PURSE, _purse(owner, month, currency)).scalar_one())


@cache
def _open_purse(on_postgresql: bool) -> Executable:
    row = conflict_insert(purses, on_postgresql=on_postgresql).values(spent_billionths=0)
    opening: Executable = row.on_conflict_do_nothing()
    return opening


def _correct(tx: Tx, row: AnyRow, reserved: Money, cost: Money) -> None:
    """The purse has what it cost in place of what was reserved."""
    if cost.currency == reserved.currency:
        more = Money(cost.billionths - reserved.billionths, cost.currency)
        _spend(tx, row.owner, row.month, more)
    else:
        _spend(tx, row.owner, row.month, Money(-reserved.billionths, reserved.currency))
        _take_purse(tx, row.owner, row.month, cost.currency)
        _spend(tx, row.owner, row.month, cost)


def _spend(tx: Tx, owner: str, month: str, more: Money) -> None:
    if more.billionths:
        tx.run(_SPEND, {**_purse(owner, month, more.currency), "more": more.billionths})


def _purse(owner: str, month: str, currency: str) -> dict[str, str]:
    return {"of_owner": owner, "of_month": month, "of_currency": currency}


def _intent_of(row: AnyRow) -> Intent:
    return Intent(
        id=row.id,
        segment_key=row.segment_key,
        engine=row.engine,
        model=row.model,
        voice=row.voice,
        owner=row.owner,
        month=row.month,
        state=IntentState(row.state),
        characters=row.characters,
        cost=Money(row.cost_billionths, row.currency),
        request_id=row.request_id,
        error=row.error,
        made_at=row.made_at,
        ended_at=row.ended_at,
    )
