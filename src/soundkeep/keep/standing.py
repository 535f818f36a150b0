"""How things stand in a keep, and whether all is as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from soundkeep import shown
from soundkeep.catalog import copies, coverage, scrubs, sidecars
from soundkeep.catalog.coverage import Coverage, SidecarCoverage, StoreCoverage
from soundkeep.catalog.database import Tx
from soundkeep.model import Copy, Sidecar, StoreState


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand: figures with their time, and each store's health."""

    coverage: Coverage
    stores: dict[str, StoreState]  # every store ever seen, by name
    configured: dict[str, str]  # name and kind of each store in the settings
    failing: list[Copy]
    failing_sidecars: list[Sidecar]
    refused_errands: int  # what other programs asked for and cannot be done
    one_device: bool  # whether every copy lies on the same device of this machine
    scrubbed: dict[str, scrubs.Figures]  # what scrubs of each store have done
    scrub_modes: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The same over HTTP and on the command line."""
        return {
            **coverage_json(self.coverage),
            "stores": self.stores_json(),
            "failing": [shown.copy_json(copy) for copy in self.failing],
            "failing_sidecars": [shown.sidecar_json(each) for each in self.failing_sidecars],
            "refused_errands": self.refused_errands,
            "one_device": self.one_device,
        }

    def stores_json(self) -> list[dict[str, Any]]:
        """Each configured store with its health, and what else holds or held copies."""
        shares = {share.store: share for share in self.coverage.stores}
        names = [*self.configured, *(name for name in shares if name not in self.configured)]
        return [self._store_json(name, shares.get(name)) for name in names]

    def _store_json(self, name: str, share: StoreCoverage | None) -> dict[str, Any]:
        known = self.stores.get(name)
        out = known is not None and known.opened_at is not None
        configured = name in self.configured or copies.is_inbox(name)
        return {
            "name": name,
            "kind": self.configured.get(name) or (known.kind if known else None),
            "state": "not configured" if not configured else "out" if out else "up",
            "out_since": shown.when(known.opened_at) if known else None,
            "error": f"{known.error_code}: {known.error}" if known and out else None,
            "copies": share.states if share else {},
            "bytes_present": share.bytes_present if share else 0,
            "resting": share.resting if share else 0,
            "leaving": share.leaving if share else 0,
            "draining_since": shown.when(known.draining_at) if known else None,
            "failing": share.failing if share else 0,
            "sidecars": msgspec.to_builtins(share.sidecars if share else SidecarCoverage()),
            "scrub": self._scrub_json(name, share),
        }

    def _scrub_json(self, name: str, share: StoreCoverage | None) -> dict[str, Any]:
        figures = self.scrubbed.get(name, scrubs.Figures())
        return {
            "mode": self.scrub_modes.get(name),
            "full_pass_at": shown.when(figures.full_pass_at),
            "oldest_proof_at": shown.when(share.oldest_proof_at) if share else None,
            "copies_read": figures.copies_read,
            "bytes_read": figures.bytes_read,
            "found": figures.found,
            "healed": figures.healed,
            "unhealed": figures.unhealed,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether all copies and sidecars are where they should be, and the first that are not."""

    coverage: Coverage
    missing: list[Copy]
    unwritten: list[Sidecar]
    unplaced: list[str]  # ids of tracks that belong in no store

    @property
    def passed(self) -> bool:
        counted = self.coverage
        return not (counted.missing or counted.unwritten or counted.temporary or counted.unplaced)

    def as_json(self) -> dict[str, Any]:
        """The same over HTTP and on the command line."""
        return {
            "passed": self.passed,
            **coverage_json(self.coverage),
            "missing_copies": [shown.copy_json(copy) for copy in self.missing],
            "unwritten_sidecars": [shown.sidecar_json(each) for each in self.unwritten],
            "unplaced_tracks": self.unplaced,
        }


def coverage_json(coverage: Coverage) -> dict[str, Any]:
    """The figures, with the time they were counted at."""
    figures = msgspec.to_builtins(coverage)
    return {**figures, "counted_at": shown.when(coverage.counted_at)}


def check(tx: Tx, limit: int) -> Checked:
    """An exact count, and the first of what is not as it should be."""
    return Checked(
        coverage.count(tx),
        copies.missing(tx, limit),
        sidecars.unwritten(tx, limit),
        coverage.unplaced(tx, limit),
    )
