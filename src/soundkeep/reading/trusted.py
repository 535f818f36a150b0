"""Reads files of this machine, quickly and without ever sending an unverified byte.

A chunk is hashed once and then trusted while its file's device, inode, size, mtime and ctime
stand, for at most `trust_seconds`. The file is read into a buffer, never mapped (one that is
truncated behind our back would kill the process), and looked at again *after* the read: what was
verified is what is sent. File systems stamp times in ticks of a few milliseconds, so a chunk
verified just after the file changed is not trusted yet.

A range that is asked for again and again within a moment is kept in memory: it is right whatever
the file does, and the file is still looked at each time, so that damage shows as soon as before.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from soundkeep.digest import CHUNK_BYTES, chunk_count
from soundkeep.errors import Corrupt, NotFound, Truncated, Unavailable
from soundkeep.model import Blob

RACY_NS = 50_000_000
MAX_FILES = 4096
MAX_OPEN = 64
CHECK_BYTES = 4 * CHUNK_BYTES
HELD_SECONDS = 1.0  # as long as a look-up lives; a deleted file's room on the disk waits for it
HOT_READS = 8  # of one range of a file while it is held open; then memory answers

_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hang us
_ABSENT = (FileNotFoundError, NotADirectoryError)

Buffer = bytes | bytearray | memoryview
Identity = tuple[int, int, int, int, int]  # device, inode, size, mtime_ns, ctime_ns


@dataclass(slots=True)
class _Marks:
    """Which chunks of a file that looks like this were verified, and how long that is believed."""

    identity: Identity
    until: float
    chunks: bytearray  # 1 where a chunk was verified

    def hold(self, first: int, last: int) -> bool:
        """Whether none of the chunks `first` to `last` (exclusive) needs hashing."""
        return self.chunks.find(0, first, last) < 0 and time.monotonic() < self.until


class Trust:
    """What was verified of which files, for so many seconds and of the files read last.

    A few of these it holds open for a moment: opening and closing is a fifth of what a short
    answer costs beside the sending.
    """

    def __init__(self, seconds: float, hot_bytes: int = 0, max_files: int = MAX_FILES) -> None:
        self._seconds = seconds
        self._hot_bytes_left = hot_bytes
        self._counting = threading.RLock()  # files are read and closed by threads too
        self._max_files = max_files
        self._files: OrderedDict[tuple[str, bytes], _Marks] = OrderedDict()
        self._open: OrderedDict[str, LocalFile] = OrderedDict()

    def open(self, path: str, blob: Blob) -> LocalFile:
        """The file, held open or opened now. Raises as `LocalFile` does; needs a running loop."""
        file = self._open.get(path)
        if file is not None and file.blob.digest == blob.digest and file.stands():
            return file
        file = LocalFile(path, blob, self)
        if not self._open:
            asyncio.get_running_loop().call_later(HELD_SECONDS, self._open.clear)
        self._open[path] = file
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return file

    def lend(self, size_bytes: int) -> bool:
        """Takes so much of the memory for hot ranges, if there is as much; `give_back` it."""
        with self._counting:
            if size_bytes > self._hot_bytes_left:
                return False
            self._hot_bytes_left -= size_bytes
            return True

    def give_back(self, size_bytes: int) -> None:
        with self._counting:
            self._hot_bytes_left += size_bytes

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


class _Hot:
    """The ranges of one open file that are asked for again and again."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._reads: dict[tuple[int, int], int] = {}
        self._kept: dict[tuple[int, int], bytes] = {}

    def __del__(self) -> None:
        self._trust.give_back(sum(map(len, self._kept.values())))

    def get(self, start: int, stop: int) -> bytes | None:
        return self._kept.get((start, stop))

    def note(self, start: int, data: Buffer) -> None:
        """Verified bytes were read from the file; keeps them if they were often enough."""
        span = (start, start + len(data))
        reads = self._reads[span] = self._reads.get(span, 0) + 1
        if reads == HOT_READS and self._trust.lend(len(data)):
            self._kept[span] = bytes(data)


class LocalFile:
    """One open file that should hold a blob, closed with the last reference to it.

    A thread that still reads holds one, so its number is never given to another file under it.
    """

    def __init__(self, path: str, blob: Blob, trust: Trust) -> None:
        """Raises `NotFound`, `Unavailable` or `Truncated`."""
        self._number = _opened(path)
        self._path = path
        self.blob = blob
        self._trust = trust
        self._marks = self._look()
        self._hot = _Hot(trust)

    def __del__(self) -> None:
        number = getattr(self, "_number", None)
        if number is not None:
            os.close(number)

    def stands(self) -> bool:
        """Whether it is still what lies at its path, unchanged: else its ctime moved, or, within
        one tick of the clock, its name is gone."""
        stat = os.fstat(self._number)
        return stat.st_nlink > 0 and _identity(stat) == self._marks.identity

    def read(
        self, start: int, stop: int, *, wait: bool = True, into: bytearray | None = None
    ) -> Buffer:
        """Verified bytes of a range that is not empty. What is new is hashed by whole chunks.

        They may be a view of `into`, which is as long as the range or longer: fresh memory costs
        nearly as much as the reading.

        Raises `Corrupt`, `Truncated` or `Unavailable`, and `BlockingIOError` when they are not in
        memory and `wait` is false.
        """
        first, last = start // CHUNK_BYTES, chunk_count(stop)
        if self._marks.hold(first, last):
            hot = self._hot.get(start, stop)
            data = hot or self._pread(start, stop, wait, into)
            if _identity(os.fstat(self._number)) == self._marks.identity:
                if hot is None:
                    self._hot.note(start, data)
                return data
            self._marks = self._look()  # touched, linked or written to: the hash will tell
        begin, end = first * CHUNK_BYTES, min(last * CHUNK_BYTES, self.blob.size_bytes)
        data = self._read_verified(first, begin, end, wait)
        return data if (start, stop) == (begin, end) else data[start - begin : stop - begin]

    def _read_verified(self, first: int, begin: int, end: int, wait: bool) -> Buffer:
        before_ns = time.time_ns()
        data = self._pread(begin, end, wait)
        whole = memoryview(data)
        last = chunk_count(end)
        for index in range(first, last):
            at = index * CHUNK_BYTES - begin
            self.blob.chunk_hashes.check(index, whole[at : at + CHUNK_BYTES])
        if self._stood_still(before_ns):
            self._marks.chunks[first:last] = b"\x01" * (last - first)
        return data

    def _stood_still(self, before_ns: int) -> bool:
        """Whether any change since the read began is sure to show in the file's times."""
        *_, modified_ns, changed_ns = identity = _identity(os.fstat(self._number))
        age_ns = before_ns - max(modified_ns, changed_ns)
        return identity == self._marks.identity and age_ns > RACY_NS

    def _look(self) -> _Marks:
        identity = _identity(os.fstat(self._number))
        if identity[2] != self.blob.size_bytes:
            raise Truncated(f"{identity[2]} of {self.blob.size_bytes} bytes are there")
        return self._trust.marks(self._path, self.blob, identity)

    def _pread(self, start: int, stop: int, wait: bool, into: bytearray | None = None) -> Buffer:
        try:
            data = self._pread_once(start, stop, wait, into)
        except BlockingIOError:
            raise
        except OSError as error:
            kind = Corrupt if error.errno == errno.EIO else Unavailable
            raise kind(f"reading failed: {error.strerror}") from error
        if len(data) < stop - start:
            raise Truncated("the file ended early")
        return data

    def _pread_once(self, start: int, stop: int, wait: bool, into: bytearray | None) -> Buffer:
        if wait:
            return os.pread(self._number, stop - start, start)
        size = stop - start
        buffer = memoryview(into)[:size] if into is not None else bytearray(size)
        if self._in_memory(buffer, start) < size:
            raise BlockingIOError  # not all of it is in memory, or the file is shorter
        return buffer

    def _in_memory(self, buffer: bytearray | memoryview, start: int) -> int:
        """Fills the buffer with what is there at once. Many file systems (tmpfs, NFS, FUSE) cannot
        be asked that: theirs is as if it were not there."""
        try:
            return os.preadv(self._number, [buffer], start, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return 0
            raise


def check_file(path: Path, blob: Blob) -> None:
    """Reads a whole file and checks every chunk. Blocks. Raises as `LocalFile` does."""
    file = LocalFile(str(path), blob, Trust(0))
    for start in range(0, blob.size_bytes, CHECK_BYTES):
        file.read(start, min(start + CHECK_BYTES, blob.size_bytes))


def _opened(path: str) -> int:
    try:
        return os.open(path, _READING)
    except _ABSENT:
        raise NotFound("the file is not there") from None
    except OSError as error:
        raise Unavailable(f"the file cannot be opened: {error.strerror}") from error


def _identity(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
