"""The contract of a store run against one that is in use.

Everything lies under a random prefix, is removed afterwards, and the store's marker stays as it is.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from soundkeep.stores.interface import Key, Receipt, Source, Store
from soundkeep.stores.wrappers import Wrapped
from soundkeep.testing.contract import StoreContract

TEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended. `error` is None if it passed."""

    test: str
    error: BaseException | None
    seconds: float

    @property
    def sentence(self) -> str:
        """The promise that was tried."""
        return self.test.removeprefix("test_").replace("_", " ")


async def run_contract(
    store: Store,
    *,
    prefix: str = "soundkeep-contract/",
    heard: Callable[[Outcome], object] = lambda outcome: None,
) -> list[Outcome]:
    """Runs the whole contract against a store that may be in use, and tidies up behind it.

    Everything lies under `prefix` and a random word. `heard` is told each outcome as it comes.
    """
    outcomes = []
    for name, _ in inspect.getmembers(StoreContract, inspect.isfunction):
        if name.startswith("test_"):
            outcome = await _run_one(store, name, f"{prefix}{secrets.token_hex(6)}/")
            heard(outcome)
            outcomes.append(outcome)
    return outcomes


async def _run_one(store: Store, name: str, prefix: str) -> Outcome:
    contract = StoreContract()
    contract.prefix = prefix
    contract.reap_age = timedelta(days=1)  # the drafts of others are none of our business
    started = time.monotonic()
    error = None
    try:
        async with _tidied(store) as remembering, asyncio.timeout(TEST_SECONDS):
            await getattr(contract, name)(remembering)
    except Exception as raised:
        error = raised
    return Outcome(name, error, time.monotonic() - started)


@asynccontextmanager
async def _tidied(store: Store) -> AsyncIterator[Store]:
    """The store, and at the end nothing in it that was put through here."""
    remembering = _Remembering(store)
    async with AsyncExitStack() as tidying:
        remembering.tidying = tidying
        yield remembering


class _Remembering(Wrapped):
    """Removes at the end what it put, and what it was about to put."""

    tidying: AsyncExitStack

    async def put(self, key: Key, source: Source) -> Receipt:
        told = self.caps.spelling.locator_of(str(key))
        self.tidying.push_async_callback(self.inner.delete, told)
        receipt = await self.inner.put(key, source)
        if receipt.locator != told:
            self.tidying.push_async_callback(self.inner.delete, receipt.locator)
        return receipt
