"""What tests of stores share: a marker, little patience, and what a network may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from servers.fault_proxy import Fault, refuse, reset, silence, stall, truncate
from soundkeep.errors import StoreError, TimedOut, Truncated, Unavailable
from soundkeep.stores.http_service import Phases
from soundkeep.stores.interface import Store

STORE_ID = "the-store-of-this-test"
IMPATIENT = Phases(connect=0.5, first_byte=0.5, between_bytes=0.5, written=0.5)
HTML = b"<!DOCTYPE html><title>Log in to this network</title>"

AnyStore = TypeVar("AnyStore", bound=Store)
Faults = dict[str, tuple[Fault, tuple[type[StoreError], ...]]]


@asynccontextmanager
async def marked(store: AnyStore) -> AsyncIterator[AnyStore]:
    """The store with its marker; closed at the end."""
    try:
        await store.write_marker(STORE_ID)
        yield store
    finally:
        await store.close()


def network_faults(at: int) -> Faults:
    """What a network may do, `at` so many bytes of an answer, and what a store says of it."""
    return {
        "no connection": (refuse(), (Unavailable,)),
        "no answer": (silence(), (TimedOut,)),
        "stalls in the answer": (stall(at=at), (TimedOut,)),
        "resets in the answer": (reset(at=at), (Unavailable, Truncated)),
        "ends too early": (truncate(at=at), (Truncated,)),
    }
