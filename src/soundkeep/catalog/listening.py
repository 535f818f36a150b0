"""Hears on PostgreSQL when another process makes work due; on SQLite there is nothing to hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from soundkeep.catalog.database import NOTIFY_CHANNEL, Catalog

RECONNECT_SECONDS = 5.0

log = structlog.get_logger()


async def listen(catalog: Catalog, woken: Callable[[], None]) -> None:
    """Calls `woken` at each notification until it is cancelled. Polling is the floor under it, so
    a lost connection is only noted, and made again."""
    if not catalog.on_postgresql:
        return
    import psycopg  # noqa: PLC0415 - 130 ms and 10 MB that SQLite does without

    address = catalog.url.set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            await _listen(address, woken)
        except psycopg.Error as error:
            log.info("not listening for work", error=type(error).__name__)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _listen(address: str, woken: Callable[[], None]) -> None:
    import psycopg  # noqa: PLC0415

    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        await connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
        woken()
        async for _ in connection.notifies():
            woken()
