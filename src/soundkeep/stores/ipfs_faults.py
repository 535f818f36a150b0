"""What several failures mean together, with every one of them told."""

from __future__ import annotations

from collections.abc import Sequence

from soundkeep.errors import Retryable, StoreError, Throttled, Unavailable


def all_failed(failures: Sequence[StoreError]) -> StoreError:
    """One error for all: their own kind if they are of one, passing if any of them may pass."""
    distinct = list({str(failure): failure for failure in failures}.values())
    if len(distinct) == 1:
        return distinct[0]
    text = "; ".join(map(str, distinct))
    kinds = {type(failure) for failure in distinct}
    if kinds == {Throttled}:
        waits = [
            failure.retry_after or 0.0 for failure in distinct if isinstance(failure, Throttled)
        ]
        return Throttled(text, retry_after=min(waits) or None)
    if len(kinds) == 1:
        return kinds.pop()(text)
    if any(isinstance(failure, Retryable) for failure in distinct):
        return Unavailable(text)
    return type(distinct[0])(text)
