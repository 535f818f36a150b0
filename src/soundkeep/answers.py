"""What people are told became of what they asked for: receipts of deletions, and syncs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from soundkeep.errors import SoundkeepError
from soundkeep.model import Chore, CopyState, Operation


@dataclass(frozen=True, slots=True)
class PublicCopy:
    """A track's present copy in a public store, as the world reads it."""

    store: str
    url: str
    sidecar_url: str | None
    since: float


class Removal(StrEnum):
    """What became of a copy of a track that was deleted, or withdrawn from its store."""

    PENDING = "pending"
    REMOVED = "removed"  # the store confirmed that it is gone
    KEPT = "kept: named elsewhere"  # another track has the same sound
    FORGOTTEN = "never confirmed: the store was forgotten"


@dataclass(frozen=True, slots=True)
class RemovalLine:
    """One line of a receipt."""

    store: str
    key: str
    outcome: Removal
    confirmed_at: float | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of a deletion, or of what was withdrawn of a track that lives: complete once every
    line is confirmed."""

    track_id: str
    deleted_at: float | None  # None of a track that lives
    public: bool  # whether anybody may hear it; of a deleted track, whether anybody could
    lines: tuple[RemovalLine, ...]

    @property
    def complete(self) -> bool:
        confirmed = (Removal.REMOVED, Removal.KEPT)
        return all(line.outcome in confirmed for line in self.lines)


class Standing(StrEnum):
    """How a track stands in a store that somebody asked about: a copy's state, or one of these."""

    GONE = "gone"  # nothing of it lies there
    KEPT = "kept: named elsewhere"  # another track has the same sound there
    REFUSED = "refused"  # what was asked for cannot be


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one operation on one track in one store."""

    track_id: str
    operation: Operation
    store: str | None
    state: CopyState | Standing
    due: tuple[Chore, ...] = ()  # what is still to be done
    since: float | None = None  # when that state came about
    shown: PublicCopy | None = None  # where the world reads it
    cached_until: float | None = None  # how long caches may still hold what is gone
    why: str | None = None  # it is still due
    refusal: SoundkeepError | None = None
