"""Where else a sound can be read: its copies in public stores, and in those that sign.

A target is one copy that a listener may be sent to. Whether a store is up is asked of its circuit,
which is a second old at most; an address that has to be signed for is made for each answer.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from soundkeep.copies.fronts import Front, Fronts
from soundkeep.errors import StoreError
from soundkeep.model import Copy, Track
from soundkeep.stores.interface import Store, lies_at

# Long enough for a sound that is paused on the way; a listener who comes back later asks again.
SIGNED_FOR = timedelta(hours=1)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Target:
    """A copy that listeners can read by themselves."""

    front: Front
    copy: Copy
    url: str | None  # None: it has to be signed for


@dataclass(frozen=True, slots=True)
class Address:
    """Where a target is read now. `expires_at` is None if that stays."""

    url: str
    expires_at: float | None


class Elsewhere:
    """Finds targets, and their addresses."""

    def __init__(self, fronts: Fronts, stores: Mapping[str, Store], proof_age: float) -> None:
        self._fronts = fronts
        self._stores = stores
        self._proof_age = proof_age

    def targets(
        self, track: Track, copies: Iterable[Copy], out: Collection[str]
    ) -> Iterator[Target]:
        """Every copy of the track's own that can be read by an address, in stores that are up, in
        the order of the settings."""
        copies = tuple(copies)
        for front in self._fronts.every:
            if front.name in out:
                continue
            reachable = front.public_url is not None or self._stores[front.name].caps.signs
            copy = front.own_copy(track, copies) if reachable else None
            if copy is not None:
                yield Target(front, copy, front.url(copy))

    def redirection(
        self, track: Track, copies: Iterable[Copy], out: Collection[str]
    ) -> Target | None:
        """The copy that listeners of ours are sent to: verified lately, in a store that is up."""
        if not self._fronts.redirecting:
            return None
        horizon = time.time() - self._proof_age
        found = (t for t in self.targets(track, copies, out) if t.front.redirects)
        return next((t for t in found if (t.copy.verified_at or 0.0) >= horizon), None)

    async def address(self, target: Target) -> Address | None:
        """Where it is read now; None if its store does not sign just now."""
        if target.url is not None:
            return Address(target.url, None)
        expires_at = time.time() + SIGNED_FOR.total_seconds()
        store = self._stores[target.front.name]
        try:
            url = await store.sign(lies_at(store, target.copy), SIGNED_FOR)
        except StoreError as error:
            log.info("not signed", store=store.name, code=error.code, why=str(error))
            return None
        return Address(url, expires_at) if url else None
