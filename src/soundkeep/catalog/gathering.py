"""Many small transactions as one: what is asked for while one runs goes into the next.

For outcomes that come in bursts, each of which would cost a commit of its own. Nobody waits longer
than for the transaction that runs and the one that follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gathered(Generic[Item, Result]):
    """Calls `act` with every item that has come meanwhile; it answers a result for each."""

    def __init__(self, act: Callable[[list[Item]], Awaitable[list[Result]]]) -> None:
        self._act = act
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The result for this item. Raises what `act` raised for all that went with it."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await result

    async def _run(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                await self._together(taken)
        finally:
            self._running = None

    async def _together(self, taken: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        """Whoever was cancelled meanwhile is told nothing."""
        try:
            results = await self._act([item for item, _ in taken])
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(taken, results, strict=True):
            if not future.done():
                future.set_result(result)
