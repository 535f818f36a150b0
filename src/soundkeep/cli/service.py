"""What the verbs ask for, whichever side answers: a data directory or a server.

Two implementations: `local.LocalService` and `remote.RemoteService`. Documents are those of
`shown.py`, the same from both, so `--json` does not depend on the side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from soundkeep.intake.recording import NewTrack

Document = dict[str, Any]
MAX_PAGE = 1000  # tracks
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Which:
    """Which tracks to list."""

    prefix: str = ""
    search: str = ""
    owner: str | None = None


class Service(Protocol):
    """Every method raises what the core raises, whichever side it is on, and `Unavailable` when a
    server cannot be reached."""

    async def add(
        self, body: AsyncIterator[bytes], new: NewTrack, size_bytes: int | None
    ) -> tuple[Document, bool]:
        """Keeps a sound; answers the track, and whether it is new."""
        ...

    async def add_file(self, file: Path, new: NewTrack) -> None:
        """Keeps a file of this machine, without telling what became of it."""
        ...

    async def digest_at(self, owner: str, path: str, size_bytes: int) -> str | None:
        """The digest, in hex, of what this path holds, if that has this size."""
        ...

    async def track(self, track_id: str) -> Document:
        """One track."""
        ...

    async def copies(self, track_id: str) -> Document:
        """The copies of a track, each with the sidecar beside it, as `items`."""
        ...

    async def tracks(self, which: Which, limit: int, cursor: str | None = None) -> Document:
        """A page of up to `MAX_PAGE` tracks: `items` and `next_cursor`."""
        ...

    def sound(self, track: Document) -> AsyncGenerator[bytes, None]:
        """The bytes of a track, in pieces. Close it with `aclosing`."""
        ...

    async def remove(self, track_id: str) -> Document:
        """Deletes a track; answers its receipt."""
        ...

    async def receipt(self, track_id: str) -> Document:
        """How far a deletion has come."""
        ...

    async def status(self) -> Document:
        """How things stand."""
        ...

    async def failing(self, limit: int) -> list[Document]:
        """Copies whose last attempt failed."""
        ...

    async def check(self) -> Document:
        """Whether every copy is where it should be, counted exactly."""
        ...

    async def retry(self, track_id: str | None, store: str | None) -> int:
        """Makes waiting work due now; answers how many rows."""
        ...

    async def drain(self, store: str) -> Document:
        """Begins to empty a store; answers how it stands."""
        ...

    async def resume(self, store: str) -> Document:
        """Takes it into use again; answers how it stands."""
        ...

    async def sync(self, order: Document) -> Document:
        """Pushes tracks or withdraws them: takes and gives what `POST /api/sync` does."""
        ...

    async def render(self, track_id: str, format: str) -> Document:
        """Makes a track in another format; answers the track that it is."""
        ...

    async def say(self, fields: Document, heard: Callable[[int, int], object]) -> Document:
        """Has a text said: takes and gives what `POST /api/speech` does. `heard` is told how many
        segments are done, and of how many, where that is known."""
        ...

    async def timing(self, track_id: str, *, as_webvtt: bool) -> str:
        """When the words of a spoken track are heard, as WebVTT or JSON."""
        ...

    async def speech_stats(self) -> Document:
        """How the cache of speech pays."""
        ...

    async def voices(self, engine: str | None) -> list[Document]:
        """Who can speak."""
        ...

    async def make_plan(self, fields: Document) -> Document:
        """Has texts spoken by and by: takes and gives what `POST /api/speech/plans` does."""
        ...

    async def plans(self, limit: int, cursor: str | None = None) -> Document:
        """A page of plans, the newest first: `items` and `next_cursor`."""
        ...

    async def plan(self, plan_id: str) -> Document:
        """One plan, and what of it could not be spoken."""
        ...

    async def pause_plan(self, plan_id: str) -> Document:
        """Begins nothing more; answers the plan."""
        ...

    async def resume_plan(self, plan_id: str, budget: str | None) -> Document:
        """Goes on, under another budget if one is given; answers the plan."""
        ...

    async def cancel_plan(self, plan_id: str) -> Document:
        """Ends it for ever; answers the plan."""
        ...

    async def settle(self, within_seconds: float) -> None:
        """Does what is due, here; a server does it on its own, so there is nothing to wait for."""
        ...


async def pieces_of(
    file: BinaryIO, heard: Callable[[int], object] = lambda count: None
) -> AsyncIterator[bytes]:
    """A file's bytes, read in a thread, because a pipe or a network disk may keep us waiting."""
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        heard(len(piece))
        yield piece
