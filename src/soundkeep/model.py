"""The records: frozen values, made of what was parsed at the edge (`names`).

Times are seconds since the epoch by the catalog's clock, as floats, until they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from soundkeep.digest import ChunkHashes, Digest

BILLION = 10**9


class Visibility(StrEnum):
    """Who may hear a track without a key."""

    PRIVATE = "private"
    PUBLIC = "public"


class Asked(StrEnum):
    """What a person asked for of one track in one store. It outlives changes of settings."""

    PUSHED = "pushed"
    WITHDRAWN = "withdrawn"


class Operation(StrEnum):
    """What a person may ask of a track in a store."""

    UPLOAD = "upload"
    DELETE = "delete"

    @property
    def asked(self) -> Asked:
        """How it is remembered."""
        return Asked.PUSHED if self is Operation.UPLOAD else Asked.WITHDRAWN


class CopyState(StrEnum):
    """What we know about a copy. `wanted → present ⇄ doubted`; any `→ unwanted → (gone)`."""

    WANTED = "wanted"  # to be written
    PRESENT = "present"  # was proven to be there, whole
    DOUBTED = "doubted"  # was there; something speaks against it, or nobody has looked yet
    UNWANTED = "unwanted"  # released by the copy law; its bytes are being removed


class Wish(StrEnum):
    """What placement wants of a copy. It never says what is there: that is the state."""

    KEEP = "keep"  # placed
    REST = "rest"  # a change of settings unplaced it; it stays as it is and counts for nothing
    LEAVE = "leave"  # it shall go as soon as the copy law allows


class SubjectKind(StrEnum):
    """What has sidecars."""

    TRACK = "track"
    SEGMENT = "segment"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a sidecar describes: a track by its id, or a segment by its key."""

    kind: SubjectKind
    name: str


class SidecarState(StrEnum):
    """What we know about a sidecar, in one word."""

    WAITING = "waiting"  # for its sound, which the store does not have yet
    DUE = "due"  # to be written, or written anew
    WRITTEN = "written"  # as its subject is
    RESTING = "resting"  # a change of settings unplaced it
    LEAVING = "leaving"  # to be removed


class Lane(StrEnum):
    """Interactive work is claimed before bulk work. (The values sort in that order.)"""

    INTERACTIVE = "a"
    BULK = "b"


class Chore(StrEnum):
    """What is still to be done about a row, if anything. `chores.py` has the actions."""

    COPY = "copy"  # write it
    VERIFY = "verify"  # re-read it, and write it anew if it is not whole
    LEAVE = "leave"  # ask the copy law to let it go
    DROP = "drop"  # remove its bytes and confirm
    WRITE_SIDECAR = "write_sidecar"  # write it as its subject is now
    REMOVE_SIDECAR = "remove_sidecar"  # remove it and confirm
    GENERATE = "generate"  # have a segment spoken
    RENDER = "render"  # make it in another format
    ADOPT = "adopt"  # read an object once, and make it a track
    SYNC = "sync"  # ask for a track in a store, or withdraw it


def chore_of(state: CopyState, wish: Wish) -> Chore | None:
    """The one thing to do next about a copy; None when it is at rest."""
    if state is CopyState.UNWANTED:
        return Chore.DROP
    if wish is Wish.LEAVE:
        return Chore.LEAVE
    if wish is Wish.REST:
        return None
    return {CopyState.WANTED: Chore.COPY, CopyState.DOUBTED: Chore.VERIFY}.get(state)


@dataclass(frozen=True, slots=True)
class Sound:
    """What a probe found out about a blob."""

    media_type: str
    extension: str
    codec: str
    duration_seconds: float
    bit_rate: int | None = None  # bits per second
    channels: int | None = None
    sample_rate_hz: int | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable bytes and what proves them."""

    digest: Digest
    size_bytes: int
    chunk_hashes: ChunkHashes
    sound: Sound


@dataclass(frozen=True, slots=True)
class Track:
    """What a person names and plays. It points at one blob, for ever."""

    id: str
    owner: str
    path: str
    title: str
    visibility: Visibility
    metadata: dict[str, Any]
    blob: Blob
    created_at: float
    revision: int
    asked: Mapping[str, Asked] = field(default_factory=dict)  # by store
    own_keys: Mapping[str, str] = field(default_factory=dict)  # by store: where it was adopted

    @property
    def subject(self) -> Subject:
        """What its sidecar describes."""
        return Subject(SubjectKind.TRACK, self.id)

    @property
    def public(self) -> bool:
        return self.visibility is Visibility.PUBLIC


@dataclass(frozen=True, slots=True)
class SegmentName:
    """Speech names a blob too: privately, without an owner or a path.

    `key` and `revision` are a segment's, whose sidecar lies beside it; a speech has neither."""

    key: str | None = None
    revision: int = 0
    public: ClassVar[bool] = False
    asked: ClassVar[Mapping[str, Asked]] = {}
    own_keys: ClassVar[Mapping[str, str]] = {}

    @property
    def subject(self) -> Subject | None:
        """What its sidecar describes."""
        return Subject(SubjectKind.SEGMENT, self.key) if self.key is not None else None


Name: TypeAlias = Track | SegmentName


class SegmentState(StrEnum):
    """How a segment stands."""

    WANTED = "wanted"
    PRESENT = "present"
    RESTING = "resting"  # its takes were refused; until then nothing is asked for


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in billionths of its currency, which is "" where no price is known."""

    billionths: int = 0
    currency: str = ""

    @classmethod
    def of(cls, amount: Decimal | None, currency: str | None) -> Money:
        """Rounded up, so that what is small is not free."""
        if amount is None or not currency:
            return cls()
        return cls(int((amount * BILLION).to_integral_value(ROUND_CEILING)), currency)

    @property
    def amount(self) -> Decimal:
        return Decimal(self.billionths) / BILLION


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of text as it was spoken, which lies in the stores as a blob."""

    key: str
    engine: str
    model: str
    voice: str
    owner: str | None  # whose alone it is; None where owners share
    text: str
    digest: Digest
    timing: Mapping[str, Any] | None  # as `speech.timing` writes it
    characters: int
    cost: Money  # what a hit saves


CLAIMED = "claimed"  # in place of how a copy was proven: somebody says that it is there


@dataclass(frozen=True, slots=True)
class Copy:
    """One blob in one store under one key, and what we know about it."""

    id: int
    digest: Digest
    store: str
    key: str
    locator: str | None
    state: CopyState
    wish: Wish
    since: float  # when it came into this state
    verified: str | None = None  # how it was proven last
    verified_at: float | None = None
    attempts: int = 0
    due_at: float | None = None
    last_error: str | None = None

    @property
    def is_claim(self) -> bool:
        """Whether somebody else's word is all we have of it: nothing was ever written there from
        here, nor found to be right."""
        return self.verified == CLAIMED


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The JSON beside a track's or a segment's sound in one store, and what we know about it."""

    id: int
    digest: Digest
    subject: Subject
    store: str
    key: str
    audio_key: str  # beside which sound
    public: bool  # whether anybody may read it: then it does not name the owner
    locator: str | None
    wish: Wish
    wanted: int  # the revision of its subject that it should show
    revision: int | None  # the one that it shows; None if it was never written
    chore: Chore | None
    attempts: int
    due_at: float | None
    last_error: str | None

    @property
    def track_id(self) -> str | None:
        """Whose it is, if it is a track's."""
        return self.subject.name if self.subject.kind is SubjectKind.TRACK else None

    @property
    def segment_key(self) -> str | None:
        """Whose it is, if it is a segment's."""
        return self.subject.name if self.subject.kind is SubjectKind.SEGMENT else None

    @property
    def state(self) -> SidecarState:
        if self.wish is not Wish.KEEP:
            return SidecarState.RESTING if self.wish is Wish.REST else SidecarState.LEAVING
        if self.chore is not None:
            return SidecarState.DUE
        is_written = self.revision == self.wanted
        return SidecarState.WRITTEN if is_written else SidecarState.WAITING


@dataclass(frozen=True, slots=True)
class StoreState:
    """What the catalog remembers of a store. Its circuit is open while `opened_at` is set."""

    name: str
    kind: str
    store_id: str
    marked: bool
    opened_at: float | None = None
    error_code: str | None = None
    error: str | None = None
    draining_at: float | None = None  # since when nothing is placed there


@dataclass(frozen=True, slots=True)
class Ack:
    """How many verified copies beside the inbox an upload waits for, and how many there are."""

    wanted: int
    have: int
