"""Which copy is read first: by what we know of it, by health, by cost, then by policy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from soundkeep.model import Copy, CopyState
from soundkeep.settings import INBOX_PREFIX
from soundkeep.stores.interface import Store, lies_at

UNWELL_SECONDS = 10.0

READABLE = (CopyState.PRESENT, CopyState.DOUBTED)


@runtime_checkable
class HasPaths(Protocol):
    """A store whose objects are files of this machine."""

    def path_of(self, locator: str) -> Path: ...


class Order:
    """Sorts copies, and remembers for a while which stores have just failed."""

    def __init__(self, stores: Mapping[str, Store], keep: Sequence[str]) -> None:
        self._stores = stores
        self._files = {name: files for name in stores if (files := _files_of(stores[name]))}
        self._rank = {name: rank for rank, name in enumerate(keep)}
        self._unwell_until: dict[str, float] = {}

    def failed(self, store: str) -> None:
        """The store did not answer: for a while it comes after those that do."""
        self._unwell_until[store] = time.monotonic() + UNWELL_SECONDS

    def answered(self, store: str) -> None:
        """The store gave a good chunk."""
        self._unwell_until.pop(store, None)

    def path(self, store: str, locator: str) -> Path | None:
        """The file of an object, if its store keeps files on this machine."""
        files = self._files.get(store)
        return files.path_of(locator) if files else None

    def best_file(self, copies: Iterable[Copy]) -> tuple[Copy, str] | None:
        """The best copy, if that is a file of this machine."""
        best = next(iter(self.sort(copies)), None)
        if best is None:
            return None
        path = self.path(best.store, lies_at(self._stores[best.store], best))
        return (best, str(path)) if path else None

    def cost(self, copy: Copy) -> int:
        """0 for a file of this machine, 1 for anything that must be asked."""
        return 0 if copy.store in self._files else 1

    def sort(self, copies: Iterable[Copy]) -> list[Copy]:
        """The copies that can be read, best first. Doubted ones come last, but they do come:
        verification decides, not state."""
        readable = (c for c in copies if c.state in READABLE and c.store in self._stores)
        return sorted(readable, key=self._key)

    def _key(self, copy: Copy) -> tuple[bool, bool, int, bool, int]:
        return (
            copy.state is CopyState.DOUBTED,
            self._unwell_until.get(copy.store, 0.0) > time.monotonic(),
            self.cost(copy),
            copy.store.startswith(INBOX_PREFIX),
            self._rank.get(copy.store, len(self._rank)),
        )


def _files_of(store: Store) -> HasPaths | None:
    """The directory behind a store, through whatever wrappers are around it."""
    inner: object = store
    while inner is not None:
        if isinstance(inner, HasPaths):
            return inner
        inner = getattr(inner, "inner", None)
    return None
