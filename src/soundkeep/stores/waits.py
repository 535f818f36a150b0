"""A limit of time for each of many waits in turn, with one timer for all of them.

    waits = Waits(10, "nothing came for 10 s")
    with waits:
        piece = await anext(pieces)

`asyncio.timeout` makes and ends a timer for every wait, which costs more than most pieces of a
body take to come (docs/decisions/0008).
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from soundkeep.errors import TimedOut


class Waits:
    """Each block may take so long; then what is awaited in it is cancelled. Close it at the end.

    One block at a time, in whichever task.
    """

    def __init__(self, seconds: float, late: str) -> None:
        self._seconds = seconds
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None  # the one that waits, while it does
        self._ends_at = 0.0
        self._cancelling = 0
        self._rung = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        self._ends_at = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(self._ends_at, self._ring)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises `TimedOut` in place of the cancellation that was ours alone."""
        task, self._task = self._task, None
        if self._rung:
            self._rung = False
            assert task is not None
            ours_alone = task.uncancel() <= self._cancelling
            if ours_alone and kind is asyncio.CancelledError:
                raise TimedOut(self._late) from error

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        """The time of the wait that set the timer is over. A later wait has more of it."""
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._task is None:
            return
        if loop.time() < self._ends_at:
            self._timer = loop.call_at(self._ends_at, self._ring)
        else:
            self._rung = True
            self._task.cancel()
