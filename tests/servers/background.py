"""An event loop in a thread of its own, for small servers that live beside the test."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

R = TypeVar("R")

ENDS_WITHIN_SECONDS = 10


class Background:
    """Runs coroutines and calls in its thread; each answers only when it is done."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """What it answers. Never from inside the loop itself."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(ENDS_WITHIN_SECONDS)

    def call(self, function: Callable[[], R]) -> R:
        async def called() -> R:
            return function()

        return self.run(called())

    def end(self) -> None:
        self.run(_cancel_the_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ENDS_WITHIN_SECONDS)
        self._loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.sleep(0)  # closed transports say goodbye in the next turn


@contextlib.contextmanager
def background() -> Iterator[Background]:
    started = Background()
    try:
        yield started
    finally:
        started.end()
