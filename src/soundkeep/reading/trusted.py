"""Reads files of this machine, quickly and without ever sending an unverified byte.

A chunk is hashed once and then trusted while its file's device, inode, size, mtime and ctime
stand, for at most `trust_seconds`. The file is read into a buffer, never mapped (one that is
truncated behind our back would kill the process), and looked at again *after* the read: what was
verified is what is sent. File systems stamp times in ticks of a few milliseconds, so a chunk
verified just after the file changed is not trusted yet.
"""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict
from dataclasses import dataclass

from soundkeep.digest import CHUNK_BYTES, chunk_span
from soundkeep.errors import Corrupt, NotFound, Truncated, Unavailable
from soundkeep.model import Blob

RACY_NS = 50_000_000
MAX_FILES = 4096

_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hang us
_ABSENT = (FileNotFoundError, NotADirectoryError)

Identity = tuple[int, int, int, int, int]  # device, inode, size, mtime_ns, ctime_ns


@dataclass(slots=True)
class _Marks:
    """Which chunks of a file that looks like this were verified, and how long that is believed."""

    identity: Identity
    until: float
    chunks: bytearray  # 1 where a chunk was verified

    def hold(self, index: int) -> bool:
        """Whether this chunk needs no hashing."""
        return bool(self.chunks[index]) and time.monotonic() < self.until


class Trust:
    """What was verified of which files, for so many seconds and of the files read last."""

    def __init__(self, seconds: float, max_files: int = MAX_FILES) -> None:
        self._seconds = seconds
        self._max_files = max_files
        self._files: OrderedDict[tuple[str, bytes], _Marks] = OrderedDict()

    def marks(self, path: str, blob: Blob, identity: Identity) -> _Marks:
        """The marks of this file as it looks now; fresh ones if it changed or time is up."""
        name = (path, blob.digest.raw)
        known = self._files.get(name)
        now = time.monotonic()
        if known is None or known.identity != identity or known.until <= now:
            known = _Marks(identity, now + self._seconds, bytearray(len(blob.chunk_hashes)))
            self._files[name] = known
        self._files.move_to_end(name)
        if len(self._files) > self._max_files:
            self._files.popitem(last=False)
        return known


class LocalFile:
    """One open file that should hold a blob, closed with the last reference to it.

    A thread that still reads holds one, so its number is never given to another file under it.
    """

    def __init__(self, path: str, blob: Blob, trust: Trust) -> None:
        """Raises `NotFound`, `Unavailable` or `Truncated`."""
        self._number = _opened(path)
        self._path = path
        self._blob = blob
        self._trust = trust
        self._marks = self._look()

    def __del__(self) -> None:
        number = getattr(self, "_number", None)
        if number is not None:
            os.close(number)

    def read(self, start: int, stop: int, *, wait: bool = True) -> bytes | bytearray:
        """Verified bytes of a range within one chunk.

        Raises `Corrupt`, `Truncated` or `Unavailable`, and `BlockingIOError` when they are not in
        memory and `wait` is false.
        """
        index = start // CHUNK_BYTES
        if self._marks.hold(index):
            data = self._pread(start, stop, wait)
            if _identity(self._number) == self._marks.identity:
                return data
            self._marks = self._look()  # touched, linked or written to: the hash will tell
        return self._read_verified(index, start, stop, wait)

    def _read_verified(self, index: int, start: int, stop: int, wait: bool) -> bytes | bytearray:
        first, last = chunk_span(index, self._blob.size_bytes)
        before_ns = time.time_ns()
        chunk = self._pread(first, last, wait)
        self._blob.chunk_hashes.check(index, memoryview(chunk))
        if self._stood_still(before_ns):
            self._marks.chunks[index] = 1
        return chunk if (start, stop) == (first, last) else chunk[start - first : stop - first]

    def _stood_still(self, before_ns: int) -> bool:
        """Whether any change since the read began is sure to show in the file's times."""
        *_, modified_ns, changed_ns = identity = _identity(self._number)
        age_ns = before_ns - max(modified_ns, changed_ns)
        return identity == self._marks.identity and age_ns > RACY_NS

    def _look(self) -> _Marks:
        identity = _identity(self._number)
        if identity[2] != self._blob.size_bytes:
            raise Truncated(f"{identity[2]} of {self._blob.size_bytes} bytes are there")
        return self._trust.marks(self._path, self._blob, identity)

    def _pread(self, start: int, stop: int, wait: bool) -> bytes | bytearray:
        try:
            data = self._pread_once(start, stop, wait)
        except BlockingIOError:
            raise
        except OSError as error:
            kind = Corrupt if error.errno == errno.EIO else Unavailable
            raise kind(f"reading failed: {error.strerror}") from error
        if len(data) < stop - start:
            raise Truncated("the file ended early")
        return data

    def _pread_once(self, start: int, stop: int, wait: bool) -> bytes | bytearray:
        if wait:
            return os.pread(self._number, stop - start, start)
        buffer = bytearray(stop - start)
        if self._in_memory(buffer, start) < len(buffer):
            raise BlockingIOError  # not all of it is in memory, or the file is shorter
        return buffer

    def _in_memory(self, buffer: bytearray, start: int) -> int:
        """Fills the buffer with what is there at once. Many file systems (tmpfs, NFS, FUSE) cannot
        be asked that: theirs is as if it were not there."""
        try:
            return os.preadv(self._number, [buffer], start, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return 0
            raise


def _opened(path: str) -> int:
    try:
        return os.open(path, _READING)
    except _ABSENT:
        raise NotFound("the file is not there") from None
    except OSError as error:
        raise Unavailable(f"the file cannot be opened: {error.strerror}") from error


def _identity(number: int) -> Identity:
    stat = os.fstat(number)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
