"""Tells the catalog that this process has its host's inbox in use, for as long as it has.

Whoever wants to forget an inbox sees by that whether anybody may still write there: a server, with
a worker or without, a worker, or a command.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from soundkeep.catalog import in_use
from soundkeep.catalog.database import Catalog
from soundkeep.errors import CatalogUnavailable

SAY_SECONDS = 10.0  # far less than after which nobody believes it (`copies.forgetting`)
LAST_WORD_SECONDS = 2.0  # a catalog that is out holds up no end

log = structlog.get_logger()


@asynccontextmanager
async def present(catalog: Catalog, inbox: str, holder: str) -> AsyncIterator[None]:
    """The catalog knows it before anything is done in here, and until all is done. Raises
    `CatalogUnavailable`, at the beginning."""
    await catalog.write(in_use.begin, inbox, holder)
    saying = asyncio.create_task(_say_for_ever(catalog, inbox, holder))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
        await _say_end(catalog, inbox, holder)


async def _say_for_ever(catalog: Catalog, inbox: str, holder: str) -> None:
    while True:
        await asyncio.sleep(SAY_SECONDS)
        try:
            await catalog.write(in_use.note, inbox, holder)
        except CatalogUnavailable as error:
            log.warning("the catalog was not told that the inbox is in use", error=str(error))


async def _say_end(catalog: Catalog, inbox: str, holder: str) -> None:
    try:
        async with asyncio.timeout(LAST_WORD_SECONDS):
            await catalog.write(in_use.note_end, inbox, holder)
    except (CatalogUnavailable, TimeoutError):
        pass  # the sign grows old by itself
