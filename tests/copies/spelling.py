"""A store that cannot write every letter, as Supabase: what is not ASCII, and `=`, it spells."""

from __future__ import annotations

from dataclasses import replace

from soundkeep.stores.interface import Caps, Key, Receipt, Source, Stat
from soundkeep.stores.supabase_requests import SPELLING
from soundkeep.stores.wrappers import Wrapped


class SpellingStore(Wrapped):
    """The store inside, in which an object is called as its key is spelled. It tells no times, so
    that nothing in it is too young to go."""

    @property
    def caps(self) -> Caps:
        return replace(self.inner.caps, spelling=SPELLING)

    async def put(self, key: Key, source: Source) -> Receipt:
        return await self.inner.put(Key(SPELLING.locator_of(str(key))), source)

    async def stat(self, locator: str) -> Stat | None:
        stat = await self.inner.stat(locator)
        return stat and replace(stat, modified_at=None)
