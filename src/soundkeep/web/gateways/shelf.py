"""Answers at hand: what was asked for within the last second is sent again without asking anybody.

A request is told by its bytes alone, so neither is it parsed nor its key made. None is older than a
second without a look at the catalog, so what is withdrawn stops; what is still asked for in the
second half of its second is looked up again beforehand. (`reading.lookup` does so for tracks.)
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from soundkeep.errors import CatalogUnavailable
from soundkeep.reading.body import Body, Local
from soundkeep.reading.lookup import MAX_AGE_SECONDS, REFRESH_SECONDS
from soundkeep.reading.reader import Reader
from soundkeep.speech.kept import There
from soundkeep.speech.speeches import Speeches
from soundkeep.web.headers import Headers, header_lines

MAX_ANSWERS = 4096
MAX_REQUEST_BYTES = 4096  # longer ones are asked for less often than they take up room

Request = tuple[bytes, bytes, bytes]  # path and query as they came, and body


@dataclass(slots=True)
class Ready:
    """A speech that can be sent at once, and its headers."""

    there: There
    local: Local | None  # the best copy and its file, if the best copy is a file
    headers: Headers
    until: float
    looked_again: bool = False
    lines: bytes = field(init=False)  # the headers, as they go over the wire

    def __post_init__(self) -> None:
        self.lines = header_lines(self.headers)

    @property
    def size_bytes(self) -> int:
        """As much as is sent."""
        return self.there.blob.size_bytes - self.there.chosen.output.head_bytes

    def body(self, reader: Reader) -> Body:
        """Its bytes. Close it."""
        there, head_bytes = self.there, self.there.chosen.output.head_bytes
        size_bytes = there.blob.size_bytes
        return Body(reader, there.blob, head_bytes, size_bytes, self.local, there.copies)


class Shelf:
    """Where they lie, by request."""

    def __init__(self, speeches: Speeches, reader: Reader) -> None:
        self._speeches = speeches
        self._reader = reader
        self._ready: OrderedDict[Request, Ready] = OrderedDict()
        self._looking: set[asyncio.Task[None]] = set()

    def get(self, request: Request) -> Ready | None:
        """The answer to a request in these very bytes, if there is one. Does not wait."""
        ready = self._ready.get(request)
        if ready is None:
            return None
        left = ready.until - time.monotonic()
        if left <= 0:
            del self._ready[request]
            return None
        if left < REFRESH_SECONDS and not ready.looked_again:
            ready.looked_again = True
            task = asyncio.create_task(self._look_again(request, ready))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)
        return ready

    def put(self, request: Request, there: There, headers: Headers, asked_at: float) -> Ready:
        """`there` is what the catalog said when it was asked at that time."""
        local = self._reader.order.best_file(there.copies)
        ready = Ready(there, local, headers, asked_at + MAX_AGE_SECONDS)
        if len(request[-1]) <= MAX_REQUEST_BYTES:
            self._ready[request] = ready
            self._ready.move_to_end(request)
            if len(self._ready) > MAX_ANSWERS:
                self._ready.popitem(last=False)
        return ready

    async def settled(self) -> None:
        """Waits until nothing is being looked up."""
        await asyncio.gather(*self._looking)

    async def _look_again(self, request: Request, ready: Ready) -> None:
        asked_at = time.monotonic()
        try:
            there = await self._speeches.look(ready.there.chosen)
        except CatalogUnavailable:
            return
        if there is None or there.blob.digest != ready.there.blob.digest:
            self._ready.pop(request, None)
        else:
            self.put(request, there, ready.headers, asked_at)
