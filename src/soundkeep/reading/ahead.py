"""Fetches the chunk after a range before it is asked for, when a listener reads on in order.

Players read far sounds in small ranges, each of which would wait for the store. The chunk goes
into the chunk cache, verified; at most `AT_ONCE` are on their way, and one that cannot be had is
nobody's fault yet: whoever asks for it will hear why.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine

from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.model import Blob

AT_ONCE = 8
REMEMBERED = 1024

Fetch = Callable[[Blob, int], Coroutine[None, None, None]]  # a chunk, by its index


class ReadAhead:
    """Remembers where the last range of each blob ended."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._ends: OrderedDict[Digest, int] = OrderedDict()
        self._running: dict[tuple[Digest, int], asyncio.Task[None]] = {}

    def note(self, blob: Blob, start: int, stop: int) -> None:
        """A range of a far blob is being read."""
        reads_on = self._ends.get(blob.digest) == start
        self._ends[blob.digest] = stop
        self._ends.move_to_end(blob.digest)
        if len(self._ends) > REMEMBERED:
            self._ends.popitem(last=False)
        following = (stop - 1) // CHUNK_BYTES + 1
        if reads_on and following < len(blob.chunk_hashes):
            self._begin(blob, following)

    async def close(self) -> None:
        """Ends what is on its way."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, blob: Blob, index: int) -> None:
        name = (blob.digest, index)
        if name in self._running or len(self._running) >= AT_ONCE:
            return
        task = asyncio.create_task(self._fetch(blob, index))
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))
