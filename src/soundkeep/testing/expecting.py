"""What tests of stores look at: all bytes of a range, all that is listed, and how a call fails."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from soundkeep.stores.interface import Store


async def read(store: Store, locator: str, start: int = 0, stop: int | None = None) -> bytes:
    """All bytes of the range."""
    async with aclosing(store.open(locator, start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


async def listed(store: Store, prefix: str = "", after: str | None = None) -> list[str]:
    """The locators that the store lists."""
    return [stat.locator async for stat in store.list(prefix, after)]


async def fails_with(kind: type[BaseException], call: Any) -> None:
    """Awaits the call, which must raise that and nothing else."""
    try:
        await call
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
