"""How long each store takes to its first chunk, so that a second copy is asked when one is slower
than usual: after the 95th percentile of its own last readings, one reading in twenty is doubled
(Dean and Barroso, The Tail at Scale, 2013)."""

from __future__ import annotations

from collections import defaultdict, deque

REMEMBERED = 128
ENOUGH = 20
QUANTILE = 0.95
SHORTEST_SECONDS = 0.01  # a store of this machine is not raced for its tenths of a millisecond


class Paces:
    """The last readings of every store."""

    def __init__(self, at_first_seconds: float) -> None:
        self._at_first_seconds = at_first_seconds
        self._seconds: defaultdict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=REMEMBERED)
        )

    def note(self, store: str, seconds: float) -> None:
        """A store gave its first chunk after so long, or had not when it was given up."""
        self._seconds[store].append(seconds)

    def patience_seconds(self, store: str) -> float:
        """How long to wait for a store before another is asked too."""
        known = self._seconds[store]
        if len(known) < ENOUGH:
            return self._at_first_seconds
        return max(SHORTEST_SECONDS, sorted(known)[int(QUANTILE * len(known))])
