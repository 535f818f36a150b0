"""A store's own few threads, so that a disk which hangs holds up nobody but its own store.

Files and databases block, so their calls are made in threads. A caller that is cancelled does not
wait for its thread: the call may still end, one way or the other, behind its back. What must then
not happen is the store's own to forbid, see `Draft`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar, TypeVarTuple

from soundkeep.errors import Unavailable

R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")


class Threads:
    """Runs blocking calls, a few at once."""

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, call: Callable[[*Arguments], R], *arguments: *Arguments) -> R:
        """What the call returns or raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, call, *arguments)

    def later(self, call: Callable[[], object]) -> None:
        """Runs the call when there is time; nobody learns how it went.

        For cleaning up, which must not wait for a disk that hangs. What it misses `reap` finds,
        also when the threads have ended already.
        """
        with suppress(RuntimeError):
            self._pool.submit(call)

    async def close(self) -> None:
        """Ends the threads after the calls that were asked for."""
        await asyncio.to_thread(self._pool.shutdown)


class Draft:
    """An object that is being written and that nobody sees yet.

    Its steps run in threads, one at a time, and none starts after `abandon`: an object never
    appears behind the back of a caller that was cancelled.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._abandoned = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """Holds the draft for one step. Raises if it was abandoned meanwhile."""
        with self._turn:
            self._refuse_abandoned()
            yield

    def _refuse_abandoned(self) -> None:
        """For the steps themselves too, just before what they do can be seen."""
        if self._abandoned:
            raise Unavailable("the put was given up")

    def abandon(self, threads: Threads) -> None:
        """Lets no further step start, and removes what is there after the running one."""
        self._abandoned = True
        threads.later(self._remove_in_turn)

    def _remove_in_turn(self) -> None:
        with self._turn:
            self.remove()

    def remove(self) -> None:
        """Removes every trace."""
        raise NotImplementedError
