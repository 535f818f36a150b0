"""A store that makes sure it is the right one before it changes anything, and before it lets an
absence be believed.

A directory that was unmounted behind our back is empty and willing: without this, bytes would be
written under its mount point, and everything on it would look lost. In another store that came in
its place the same key may be somebody's only copy: so deleting asks first, too.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from soundkeep.errors import Misconfigured, NotFound
from soundkeep.stores.interface import Bytes, Key, Receipt, Source, Stat, Store
from soundkeep.stores.wrappers import Wrapped

SURE_SECONDS = 1.0  # a put trusts a look at the marker for so long; nothing that removes does

ExpectedId = Callable[[], Awaitable[str | None]]


class Guarded(Wrapped):
    """Compares the marker with the id that the catalog knows; None is a store not yet marked.

    A store that cannot be marked passes, and what it says of absence proves no loss.
    """

    def __init__(self, inner: Store, expected_id: ExpectedId) -> None:
        super().__init__(inner)
        self._expected_id = expected_id
        self._sure_until = 0.0

    async def put(self, key: Key, source: Source) -> Receipt:
        if time.monotonic() > self._sure_until:
            await self._check()
        return await self.inner.put(key, source)

    async def stat(self, locator: str) -> Stat | None:
        found = await self.inner.stat(locator)
        if found is None:
            await self._check()
        return found

    async def delete(self, locator: str) -> None:
        await self._check()
        await self.inner.delete(locator)

    def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        return self._listed(prefix, after)

    async def _listed(self, prefix: str, after: str | None) -> AsyncGenerator[Stat, None]:
        """A bucket's first list puts two objects of its own, so it asks before, too."""
        await self._check()
        async for stat in self.inner.list(prefix, after):
            yield stat

    def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        return self._checked(self.inner.open(locator, start, stop))

    async def _checked(self, pieces: Bytes) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in pieces:
                yield piece
        except NotFound:
            await self._check()
            raise
        finally:
            await pieces.aclose()

    async def _check(self) -> None:
        """Raises `Misconfigured`."""
        if not self.caps.marks:
            return
        self._sure_until = 0.0
        expected = await self._expected_id()
        if expected is None:
            raise Misconfigured(f"store {self.name} was not admitted yet")
        if await self.inner.read_marker() != expected:
            raise Misconfigured(
                f"store {self.name} is empty or another one. Is the right place mounted?"
            )
        self._sure_until = time.monotonic() + SURE_SECONDS
