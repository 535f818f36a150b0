"""How often somebody may call who shows no key: so many times a minute, by address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from soundkeep.errors import TooManyRequests

MAX_CALLERS = 10_000  # remembered; whoever was forgotten begins anew


class Rate:
    """A bucket for each caller that holds a minute's calls and fills up steadily."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._callers: OrderedDict[str, tuple[float, float]] = OrderedDict()  # calls left, and when

    def admit(self, caller: str) -> None:
        """Counts a call. Raises `TooManyRequests`."""
        now = self._clock()
        left, since = self._callers.pop(caller, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
        self._callers[caller] = (left - 1 if left >= 1 else left, now)
        while len(self._callers) > MAX_CALLERS:
            self._callers.popitem(last=False)
        if left < 1:
            raise TooManyRequests("too many requests without a key: wait a little")
