"""The list of chores: each a kind of row in the ledger and the short action that makes it true.

| chore          | the row says             | the action                                        |
|----------------|--------------------------|---------------------------------------------------|
| verify         | a copy is doubted        | re-read it; write it anew if it is not whole      |
| copy           | a copy is wanted         | write it from wherever the blob is good; prove it |
| write_sidecar  | a sidecar is out of date | write it as its subject is now                    |
| remove_sidecar | a sidecar is not placed  | remove it and confirm that it is gone             |
| leave          | a copy is not placed     | ask the copy law, proving others where that helps |
| drop           | the law let a copy go    | remove its bytes and confirm that they are gone   |
| adopt          | somebody named an object | read it once, and make it a track where it is     |
| sync           | somebody named a track   | ask for it in a store, or withdraw it from there  |

Actions are idempotent. Around each stands the same frame: its lease is renewed while it runs,
its outcome is fenced, a failure goes on the retry curve, an outage costs the row nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy import Table

from soundkeep.catalog import claims, copy_work, errands, sidecar_work
from soundkeep.catalog.claims import Lease
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import errands as errands_table
from soundkeep.catalog.schema import sidecars as sidecars_table
from soundkeep.copies.copying import Copier
from soundkeep.copies.dropping import Dropper
from soundkeep.copies.outages import Outages
from soundkeep.copies.sidecars import SidecarKeeper
from soundkeep.errors import LeaseLost, SoundkeepError
from soundkeep.intake.errands import Errands
from soundkeep.model import Chore
from soundkeep.stores.interface import Store

SMALL = 4  # of these at once for each of the others

log = structlog.get_logger()


class Leased(Protocol):
    """What a claim gives: a row and the lease on it."""

    @property
    def lease(self) -> Lease: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A chore: where its rows are, how they are claimed, and the action on one that is leased.

    `share` is how many of its actions count as one: small ones are claimed and run by the batch.
    """

    chore: Chore
    table: Table
    claim: Callable[..., list[Any]]
    act: Callable[[Store, Any], Awaitable[None]]
    share: int = 1


def kinds(copier: Copier, dropper: Dropper, keeper: SidecarKeeper) -> tuple[Kind, ...]:
    """What is to be done about copies and sidecars, what heals first."""
    return (
        Kind(Chore.VERIFY, copies_table, copy_work.claim, copier.verify),
        Kind(Chore.COPY, copies_table, copy_work.claim, copier.copy),
        Kind(Chore.WRITE_SIDECAR, sidecars_table, sidecar_work.claim, keeper.write, SMALL),
        Kind(Chore.REMOVE_SIDECAR, sidecars_table, sidecar_work.claim, keeper.remove, SMALL),
        Kind(Chore.LEAVE, copies_table, copy_work.claim, dropper.leave),
        Kind(Chore.DROP, copies_table, copy_work.claim, dropper.drop),
    )


def of_errands(errander: Errands) -> tuple[Kind, ...]:
    """What is to be done about what other programs ask for."""
    return (
        Kind(Chore.SYNC, errands_table, errands.claim, errander.sync, SMALL),
        Kind(Chore.ADOPT, errands_table, errands.claim, errander.adopt),
    )


class Frame:
    """What stands around every action."""

    def __init__(self, catalog: Catalog, outages: Outages, lease_seconds: float) -> None:
        self._catalog = catalog
        self._outages = outages
        self._lease_seconds = lease_seconds

    async def carry_out(self, kind: Kind, store: Store, claimed: Leased) -> bool:
        """Runs the action and writes down how it ended; answers whether it succeeded.

        Cancelled, it gives the lease back. An action whose lease is lost is stopped.
        """
        began = time.monotonic()
        acting = asyncio.ensure_future(kind.act(store, claimed))
        renewing = asyncio.create_task(self._renew(kind, claimed, acting))
        try:
            await acting
        except LeaseLost:
            log.info("lease lost", chore=kind.chore, store=store.name, row=claimed.lease.row_id)
        except SoundkeepError as error:
            await self._failed(kind, store, claimed, error)
        except asyncio.CancelledError:
            if not renewing.cancelled() and _lost(renewing):
                return False
            await self._give_back(kind, claimed)
            raise
        except Exception as error:  # a fault of ours: the row must not be stuck with it
            log.exception("chore failed", chore=kind.chore, store=store.name)
            await self._note(kind, claimed, f"internal: {type(error).__name__}: {error}")
        else:
            log.debug("done", chore=kind.chore, store=store.name, seconds=time.monotonic() - began)
            return True
        finally:
            renewing.cancel()
        return False

    async def _renew(self, kind: Kind, claimed: Leased, acting: asyncio.Future[None]) -> None:
        """Prolongs the lease at a third of its time; stops the action when it is lost."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                await self._catalog.write(
                    claims.renew, kind.table, claimed.lease, self._lease_seconds
                )
            except LeaseLost:
                acting.cancel()
                raise
            except SoundkeepError as error:
                log.warning("lease not renewed", error=str(error))

    async def _failed(
        self, kind: Kind, store: Store, claimed: Leased, error: SoundkeepError
    ) -> None:
        log.info(
            "chore failed", chore=kind.chore, store=store.name, code=error.code, why=str(error)
        )
        with suppress(LeaseLost):
            await self._outages.write_down(kind.table, claimed.lease, store.name, error)

    async def _note(self, kind: Kind, claimed: Leased, error: str) -> None:
        with suppress(LeaseLost):
            await self._catalog.write(claims.fail, kind.table, claimed.lease, error)

    async def _give_back(self, kind: Kind, claimed: Leased) -> None:
        await self._catalog.write(claims.release, kind.table, claimed.lease)


def _lost(renewing: asyncio.Task[None]) -> bool:
    return renewing.done() and isinstance(renewing.exception(), LeaseLost)
