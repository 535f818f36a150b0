"""The list of chores: each a kind of row in the ledger and the short action that makes it true.

| chore  | the row says                     | the action                                          |
|--------|----------------------------------|-----------------------------------------------------|
| verify | a copy is doubted                | re-read it; write it anew if it is not whole        |
| copy   | a copy is wanted                 | write it from wherever the blob is good; prove it   |
| leave  | a copy is no longer placed       | ask the copy law, proving others where that helps   |
| drop   | a copy was released by the law   | remove its bytes and confirm that they are gone     |

Actions are idempotent. Around each stands the same frame: its lease is renewed while it runs,
its outcome is fenced, a failure goes on the retry curve, an outage costs the row nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from soundkeep.catalog import claims
from soundkeep.catalog.copies import Claimed
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.copies.copying import Copier
from soundkeep.copies.dropping import Dropper
from soundkeep.copies.outages import Outages
from soundkeep.errors import LeaseLost, SoundkeepError
from soundkeep.model import Chore
from soundkeep.stores.interface import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kind:
    """A chore and its action on one leased row."""

    chore: Chore
    act: Callable[[Store, Claimed], Awaitable[None]]


def kinds(copier: Copier, dropper: Dropper) -> tuple[Kind, ...]:
    """Every chore, those that heal first."""
    return (
        Kind(Chore.VERIFY, copier.verify),
        Kind(Chore.COPY, copier.copy),
        Kind(Chore.LEAVE, dropper.leave),
        Kind(Chore.DROP, dropper.drop),
    )


class Frame:
    """What stands around every action."""

    def __init__(self, catalog: Catalog, outages: Outages, lease_seconds: float) -> None:
        self._catalog = catalog
        self._outages = outages
        self._lease_seconds = lease_seconds

    async def carry_out(self, kind: Kind, store: Store, claimed: Claimed) -> bool:
        """Runs the action and writes down how it ended; answers whether it succeeded.

        Cancelled, it gives the lease back. An action whose lease is lost is stopped.
        """
        began = time.monotonic()
        acting = asyncio.ensure_future(kind.act(store, claimed))
        renewing = asyncio.create_task(self._renew(claimed, acting))
        try:
            await acting
        except LeaseLost:
            log.info("lease lost", chore=kind.chore, store=store.name, copy=claimed.copy.id)
        except SoundkeepError as error:
            await self._failed(kind, store, claimed, error)
        except asyncio.CancelledError:
            if not renewing.cancelled() and _lost(renewing):
                return False
            await self._give_back(claimed)
            raise
        except Exception as error:  # a fault of ours: the row must not be stuck with it
            log.exception("chore failed", chore=kind.chore, store=store.name)
            await self._note(claimed, f"internal: {type(error).__name__}: {error}")
        else:
            log.debug("done", chore=kind.chore, store=store.name, seconds=time.monotonic() - began)
            return True
        finally:
            renewing.cancel()
        return False

    async def _renew(self, claimed: Claimed, acting: asyncio.Future[None]) -> None:
        """Prolongs the lease at a third of its time; stops the action when it is lost."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                await self._catalog.write(
                    claims.renew, copies_table, claimed.lease, self._lease_seconds
                )
            except LeaseLost:
                acting.cancel()
                raise
            except SoundkeepError as error:
                log.warning("lease not renewed", error=str(error))

    async def _failed(
        self, kind: Kind, store: Store, claimed: Claimed, error: SoundkeepError
    ) -> None:
        log.info(
            "chore failed", chore=kind.chore, store=store.name, code=error.code, why=str(error)
        )
        with suppress(LeaseLost):
            await self._outages.write_down(copies_table, claimed.lease, store.name, error)

    async def _note(self, claimed: Claimed, error: str) -> None:
        with suppress(LeaseLost):
            await self._catalog.write(claims.fail, copies_table, claimed.lease, error)

    async def _give_back(self, claimed: Claimed) -> None:
        await self._catalog.write(claims.release, copies_table, claimed.lease)


def _lost(renewing: asyncio.Task[None]) -> bool:
    return renewing.done() and isinstance(renewing.exception(), LeaseLost)
