"""A store in a directory: one file for each object, named by its key.

An object appears by a rename or a link of bytes that are already on the disk, so a crash leaves
the former object or the whole new one. A failed fsync fails the put: the kernel may have dropped
the pages, and a second fsync would report success for bytes that are gone.

The marker and `.soundkeep/tmp` are made by `write_marker` alone. A put needs the one, an answer
"absent" the other. So a directory whose disk is not mounted takes nothing, loses nothing and
confirms no removal: it is `Misconfigured`.
"""

from __future__ import annotations

import errno
import json
import os
import stat as modes
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import (
    BadPath,
    Corrupt,
    Misconfigured,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    TooLarge,
    Truncated,
    Unavailable,
    Unsupported,
)
from soundkeep.stores.files import (
    FileDraft,
    OpenFile,
    make_directories,
    open_regular,
    remove_empty,
    remove_if_old,
    sync_directory,
)
from soundkeep.stores.interface import (
    MARKER_KEY,
    RESERVED_PREFIX,
    Bytes,
    Caps,
    Key,
    Receipt,
    Source,
    Stat,
)
from soundkeep.stores.pieces import check_fits, exactly, regrouped, span
from soundkeep.stores.threads import Threads

THREADS = 8
LISTED_AT_ONCE = 256

FAULTS: dict[int, type[StoreError]] = {
    errno.ENOENT: Misconfigured,
    errno.ENOSPC: QuotaExceeded,
    errno.EDQUOT: QuotaExceeded,
    errno.EFBIG: TooLarge,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.ENAMETOOLONG: Unsupported,
    errno.EILSEQ: Unsupported,  # a file system that refuses some names
    errno.EEXIST: Unsupported,  # these three: no file system holds both `a` and `a/b`
    errno.ENOTDIR: Unsupported,
    errno.EISDIR: Unsupported,
}  # all else, EIO and a stale mount among it, may pass: Unavailable

R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")


class LocalStore:
    """Files under `path`."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        public: bool = False,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.caps = Caps(links=True, public=public, max_bytes=max_bytes, types=types)
        self._drafts = path / RESERVED_PREFIX / "tmp"
        self._threads = Threads(f"store-{name}", THREADS)

    def path_of(self, locator: str) -> Path:
        """The file of an object, whether it is there or not. Raises `BadPath`."""
        return self.path / str(Key(locator))

    async def probe(self) -> None:
        await self._run(self._probe)

    async def read_marker(self) -> str | None:
        return await self._run(self._read_marker)

    async def write_marker(self, store_id: str) -> None:
        await self._run(self._write_marker, store_id)

    async def put(self, key: Key, source: Source) -> Receipt:
        check_fits(self.caps, source)
        draft = self._draft(str(key))
        try:
            if not await self._run(self._taken_over, draft, source):
                await self._write(draft, source)
        except BaseException:
            draft.abandon(self._threads)
            raise
        return Receipt(str(key))

    async def stat(self, locator: str) -> Stat | None:
        return await self._run(self._stat, locator)

    async def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        file = await self._run(self._open, locator)
        start, stop = span(file.size_bytes, start, stop)
        while start < stop:
            piece = await self._run(file.read, min(CHUNK_BYTES, stop - start), start)
            if not piece:
                raise Truncated(f"{locator} in {self.name} became shorter while it was read")
            yield piece
            start += len(piece)

    async def delete(self, locator: str) -> None:
        await self._run(self._delete, locator)

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        await self._run(self._require_marker)
        found = self._walk(self.path, "", prefix, after or "")
        while some := await self._run(list, islice(found, LISTED_AT_ONCE)):
            for stat in some:
                yield stat

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        return None

    async def reap(self, older_than: timedelta) -> int:
        return await self._run(self._reap, time.time() - older_than.total_seconds())

    async def close(self) -> None:
        await self._threads.close()

    # --- the place --------------------------------------------------------------------------

    async def _run(self, call: Callable[[*Arguments], R], *arguments: *Arguments) -> R:
        """Runs a call in a thread and translates what the system says of it."""
        try:
            return await self._threads.run(call, *arguments)
        except OSError as error:
            kind = FAULTS.get(error.errno or 0, Unavailable)
            place = error.filename2 or error.filename or self.path
            raise kind(f"{self.name}: {error.strerror}: {place}") from error

    def _probe(self) -> None:
        if not self.path.is_dir():
            raise Misconfigured(f"{self.name}: there is no directory {self.path}")
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionDenied(f"{self.name}: {self.path} cannot be written")

    def _read_marker(self) -> str | None:
        self._probe()
        try:
            return str(json.loads(self.path_of(MARKER_KEY).read_bytes())["id"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{self.name}: its marker {MARKER_KEY} cannot be read") from error

    def _write_marker(self, store_id: str) -> None:
        make_directories(self._drafts)
        draft = self._draft(MARKER_KEY)
        draft.begin()
        draft.write(json.dumps({"id": store_id}).encode())
        draft.publish()

    def _require_marker(self) -> None:
        """What is absent from a directory that is not ours may well exist in the one that is."""
        if not self.path_of(MARKER_KEY).is_file():
            raise Misconfigured(f"{self.name}: {self.path} does not hold this store (no marker)")

    def _require_drafts(self) -> None:
        if not self._drafts.is_dir():
            raise Misconfigured(f"{self.name}: {self.path} does not hold this store")

    def _reap(self, before: float) -> int:
        return sum(remove_if_old(path, before) for path in self._drafts.iterdir())

    # --- one object -------------------------------------------------------------------------

    def _taken_over(self, draft: FileDraft, source: Source) -> bool:
        """Whether a link made the object already. What is not our directory takes nothing."""
        self._require_drafts()
        return source.file is not None and draft.link(source.file, source.size_bytes)

    async def _write(self, draft: FileDraft, source: Source) -> None:
        await self._run(draft.begin)
        async with aclosing(regrouped(exactly(source), CHUNK_BYTES)) as pieces:
            async for piece in pieces:
                await self._run(draft.write, piece)
        await self._run(draft.publish)

    def _draft(self, locator: str) -> FileDraft:
        return FileDraft(self._drafts, self.path_of(locator), self.path)

    def _stat(self, locator: str) -> Stat | None:
        try:
            found = self.path_of(locator).lstat()
        except (FileNotFoundError, NotADirectoryError):
            self._require_marker()
            return None
        return _stat_of(locator, found)

    def _open(self, locator: str) -> OpenFile:
        file = open_regular(self.path_of(locator))
        if file is None:
            self._require_marker()
            raise NotFound(f"{self.name} has no {locator}")
        return file

    def _delete(self, locator: str) -> None:
        """Also what is absent is synced: a call that was cut short may not have come to it."""
        path = self.path_of(locator)
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self._require_marker()
        if path.parent.is_dir():  # and not a file: `a/b` is absent where `a` is an object
            sync_directory(path.parent)
            remove_empty(self.path, path.parent)

    # --- all of them ------------------------------------------------------------------------

    def _walk(self, directory: Path, base: str, prefix: str, after: str) -> Iterator[Stat]:
        """The objects under `base` in order, holding the names of one directory per level.

        A directory sorts as its name with a slash, and code points sort as their UTF-8 bytes do.
        """
        for name, entry in sorted(_entries(directory), key=lambda pair: pair[0]):
            locator = base + name
            if not _may_hold(locator, prefix, after) or locator == RESERVED_PREFIX:
                continue
            if name.endswith("/"):
                yield from self._walk(directory / name, locator, prefix, after)
            elif stat := _listed(locator, entry):
                yield stat


def _stat_of(locator: str, found: os.stat_result) -> Stat | None:
    """Nothing but a regular file is an object."""
    if not modes.S_ISREG(found.st_mode):
        return None
    return Stat(locator, found.st_size, modified_at=found.st_mtime)


def _entries(directory: Path) -> list[tuple[str, os.DirEntry[str]]]:
    """What lies in a directory; nothing if it went away while its parent was walked."""
    try:
        with os.scandir(directory) as found:
            return [(_sort_name(entry), entry) for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sort_name(entry: os.DirEntry[str]) -> str:
    return entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name


def _may_hold(locator: str, prefix: str, after: str) -> bool:
    """Whether the object, or anything in the directory, belongs to the list."""
    if locator.endswith("/"):
        below = prefix.startswith(locator) or locator.startswith(prefix)
        return below and (locator > after or after.startswith(locator))
    return locator.startswith(prefix) and locator > after


def _listed(locator: str, entry: os.DirEntry[str]) -> Stat | None:
    """A foreign file whose name is no key cannot be ours, nor one that is gone again."""
    try:
        Key(locator)
        return _stat_of(locator, entry.stat(follow_symlinks=False))
    except (BadPath, FileNotFoundError):
        return None
