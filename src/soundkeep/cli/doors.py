"""The door to a keep: in the data directory here, or on a server elsewhere. Verbs see no more.

Both answer with the same JSON (`shown.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from soundkeep.cli.app import Options
from soundkeep.errors import SettingsError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """Which tracks to list."""

    prefix: str = ""
    search: str = ""
    limit: int = 100
    cursor: str | None = None


class Door(Protocol):
    """What verbs ask of a keep. Everything raises the `SoundkeepError` that the keep raised."""

    async def add(self, body: AsyncIterator[bytes], fields: dict[str, str]) -> tuple[Json, bool]:
        """The track, and whether it is new."""
        ...

    async def page(self, listing: Listing) -> Json: ...
    async def show(self, track_id: str) -> Json: ...
    def get(self, track_id: str) -> AsyncGenerator[bytes, None]: ...
    async def remove(self, track_id: str) -> Json: ...
    async def status(self) -> Json: ...
    async def check(self) -> Json: ...
    async def retry(self, track_id: str | None, store: str | None) -> int: ...

    async def settle(self) -> None:
        """Waits until the ledger has nothing left that can be done now."""
        ...


@asynccontextmanager
async def door(options: Options, *, bulk: bool = False) -> AsyncIterator[Door]:
    """The door that the options ask for."""
    async with _door(options, bulk) as opened:
        yield opened


def _door(options: Options, bulk: bool) -> AbstractAsyncContextManager[Door]:
    from soundkeep.cli import local, remote  # noqa: PLC0415 - only one of them is paid for

    if options.url:
        return remote.opened(options.url, options.key)
    return local.opened(options.settings(), bulk=bulk)


def only_here(options: Options, verb: str) -> None:
    """Raises `SettingsError` for a verb that works on this machine only."""
    if options.url:
        raise SettingsError(f"{verb} works on the data directory here, not on --url")
