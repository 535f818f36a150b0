"""Money: no call without an intent, none beyond the budget, and nothing that is lost silently."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from sqlalchemy import func, select, update

from ledgers import opened
from soundkeep.catalog import claims, money
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.money import IntentState, Order, Outcome
from soundkeep.catalog.schema import intents, purses
from soundkeep.errors import OverBudget
from soundkeep.model import Money

HOLDER = "host/1/1"


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


def dollars(amount: str) -> Money:
    return Money.of(Decimal(amount), "USD")


def order(key: str = "a", owner: str = "anna", cost: str = "1", budget: str | None = "10") -> Order:
    limit = dollars(budget) if budget is not None else None
    return Order(key, "fake", "tts-1", "nova", owner, 100, dollars(cost), limit)


async def reserve(catalog: Catalog, what: Order, holder: str = HOLDER) -> int:
    return await catalog.write(money.reserve, what, holder=holder, lease_token="token")


async def spent(catalog: Catalog, owner: str = "anna") -> Decimal:
    """By the purse, which must say what the sum over the intents says."""
    month = money.month_of(await catalog.read(lambda tx: tx.now()))
    by_purse = (await catalog.read(money.spent, owner, month)).get("USD", Money())
    assert by_purse.billionths == await catalog.read(summed, owner)
    return by_purse.amount


def summed(tx: Tx, owner: str) -> int:
    sums = select(func.coalesce(func.sum(intents.c.cost_billionths), 0))
    mine = sums.where(intents.c.owner == owner, intents.c.currency == "USD")
    return int(tx.run(mine).scalar_one())


async def test_of_fifty_calls_at_once_the_budget_allows_ten(catalog: Catalog) -> None:
    calls = (reserve(catalog, order(f"key-{number}")) for number in range(50))
    ended = await asyncio.gather(*calls, return_exceptions=True)
    refused = [each for each in ended if isinstance(each, OverBudget)]
    assert len(refused) == 40
    assert len({each for each in ended if isinstance(each, int)}) == 10
    assert await spent(catalog) == 10


async def test_an_outcome_takes_the_place_of_its_estimate(catalog: Catalog) -> None:
    intent = await reserve(catalog, order(cost="4"))
    assert await spent(catalog) == 4
    outcome = Outcome(IntentState.DONE, dollars("2.5"), characters=80, request_id="r-1")
    await catalog.write(money.settle, intent, outcome)
    assert await spent(catalog) == Decimal("2.5")
    [row] = await catalog.read(money.of_segment, "a")
    assert (row.state, row.cost, row.characters) == (IntentState.DONE, dollars("2.5"), 80)
    assert row.request_id == "r-1"


async def test_what_surely_cost_nothing_is_given_back(catalog: Catalog) -> None:
    intent = await reserve(catalog, order(cost="10"))
    with pytest.raises(OverBudget):
        await reserve(catalog, order("b"))
    await catalog.write(money.settle, intent, Outcome(IntentState.FAILED, Money(0, "USD")))
    assert await spent(catalog) == 0
    await reserve(catalog, order("b"))


async def test_what_may_have_cost_something_counts_until_it_is_known(catalog: Catalog) -> None:
    intent = await reserve(catalog, order(cost="6"))
    assert await catalog.write(money.forsake, "a") == 1
    assert await spent(catalog) == 6
    with pytest.raises(OverBudget):
        await reserve(catalog, order("b", cost="5"))
    late = Outcome(IntentState.DONE, dollars("3"))
    await catalog.write(money.settle, intent, late)
    await catalog.write(money.settle, intent, Outcome(IntentState.FAILED, Money(0, "USD")))
    [row] = await catalog.read(money.of_segment, "a")
    assert (row.state, row.cost) == (IntentState.DONE, dollars("3"))
    assert await spent(catalog) == 3


async def test_a_bill_in_another_currency_goes_to_a_purse_of_its_own(catalog: Catalog) -> None:
    intent = await reserve(catalog, order(cost="6"))
    euros = Money.of(Decimal("4"), "EUR")
    await catalog.write(money.settle, intent, Outcome(IntentState.DONE, euros))
    assert await spent(catalog) == 0
    month = money.month_of(await catalog.read(lambda tx: tx.now()))
    assert (await catalog.read(money.spent, "anna", month))["EUR"] == euros


async def test_owners_and_months_have_budgets_of_their_own(catalog: Catalog) -> None:
    await reserve(catalog, order(cost="10"))
    await reserve(catalog, order(owner="ben", cost="10"))
    with pytest.raises(OverBudget) as refused:
        await reserve(catalog, order("b"))
    assert refused.value.details == {"owner": "anna"}
    await catalog.write(the_month_ends)
    await reserve(catalog, order("b"))


def the_month_ends(tx: Tx) -> None:
    tx.run(update(intents).values(month="2001-01"))
    tx.run(update(purses).values(month="2001-01"))


async def test_what_costs_nothing_is_within_every_budget(catalog: Catalog) -> None:
    free = order(cost="0", budget="0")
    assert await reserve(catalog, free) > 0
    assert await reserve(catalog, order("b", budget=None, cost="1000")) > 0


async def test_the_calls_of_a_dead_process_are_unknown(catalog: Catalog) -> None:
    told = [sys.executable, "-c", "from soundkeep.catalog.claims import *; print(holder_name('h'))"]
    dead = subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()
    await reserve(catalog, order("of the dead"), holder=dead)
    await reserve(catalog, order("of the living"), holder=claims.holder_name("h"))
    assert await catalog.write(money.forsake_dead, "h") == 1
    assert await catalog.write(money.forsake_dead, "h") == 0
    counts = await catalog.read(money.counted)
    assert (counts[IntentState.UNKNOWN], counts[IntentState.OPEN]) == (1, 1)
    assert await spent(catalog) == 2


def test_small_amounts_are_rounded_up_and_never_free() -> None:
    assert Money.of(Decimal("0.0000000001"), "USD").billionths == 1
    assert Money.of(Decimal("0.3"), "USD").amount == Decimal("0.3")
    assert Money.of(None, "USD") == Money.of(Decimal(1), None) == Money()
