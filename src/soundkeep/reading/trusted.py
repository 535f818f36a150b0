"""Reads files of this machine, quickly and without ever sending an unverified byte.

A chunk is hashed once and then trusted while its file's device, inode, size, mtime and ctime
stand, for at most `trust_seconds`. The file is read into a buffer, never mapped (one that is
truncated behind our back would kill the process), and looked at again *after* the read: what was
verified is what is sent. File systems stamp times in ticks of a few milliseconds, so a chunk
verified just after the file changed is not trusted yet.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from soundkeep.digest import CHUNK_BYTES, Digest, chunk_span
from soundkeep.errors import Corrupt, NotFound, Truncated, Unavailable
from soundkeep.model import Blob

RACY_NS = 50_000_000
MAX_FILES = 4096

Identity = tuple[int, int, int, int, int]


@dataclass(slots=True)
class _Trusted:
    identity: Identity
    until: float
    chunks: bytearray  # 1 where a chunk was verified


class Trust:
    """Which chunks of which files were verified, and until when that is believed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._files: OrderedDict[tuple[Digest, str], _Trusted] = OrderedDict()

    def chunks(self, blob: Blob, path: str, identity: Identity) -> bytearray:
        """The marks for this file as it is now; fresh ones if it changed or time is up."""
        name = (blob.digest, path)
        known = self._files.get(name)
        if known is None or known.identity != identity or known.until < time.monotonic():
            until = time.monotonic() + self._seconds
            known = _Trusted(identity, until, bytearray(len(blob.chunk_hashes)))
            self._files[name] = known
            if len(self._files) > MAX_FILES:
                self._files.popitem(last=False)
        return known.chunks


class LocalFile:
    """One open file that should hold a blob. Close it."""

    def __init__(self, path: Path, blob: Blob, trust: Trust) -> None:
        """Raises `NotFound`, `Unavailable`, `Truncated`."""
        self._blob = blob
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"{path.name} is not there") from None
        except OSError as error:
            raise Unavailable(f"{path.name}: {error.strerror}") from error
        self._identity = _identity(self._file)
        self._trusted = trust.chunks(blob, str(path), self._identity)
        if self._identity[2] != blob.size_bytes:
            self.close()
            raise Truncated(f"{self._identity[2]} of {blob.size_bytes} bytes are there")

    def close(self) -> None:
        os.close(self._file)

    def is_quick(self, start: int, stop: int) -> bool:
        """Whether the bytes were verified before, so that reading them costs no hashing."""
        return all(self._trusted[start // CHUNK_BYTES : -(-stop // CHUNK_BYTES)])

    def read(self, start: int, stop: int, *, wait: bool = True) -> bytes | bytearray:
        """Verified bytes of a range within one chunk.

        Raises `Corrupt` or `Truncated` if they are not good, and `BlockingIOError` when they are
        not in memory and `wait` is false.
        """
        index = start // CHUNK_BYTES
        if self._trusted[index]:
            data = self._pread(start, stop, wait)
            if _identity(self._file) == self._identity:
                return data
            raise Corrupt("the file changed while it was read")
        first, last = chunk_span(index, self._blob.size_bytes)
        chunk = self._pread(first, last, wait)
        self._blob.chunk_hashes.check(index, memoryview(chunk))
        self._trust(index)
        return chunk[start - first : stop - first]

    def _trust(self, index: int) -> None:
        """A mark is set only if the file stood still around the read."""
        identity = _identity(self._file)
        age = time.time_ns() - max(identity[3], identity[4])
        if identity == self._identity and age > RACY_NS:
            self._trusted[index] = 1

    def _pread(self, start: int, stop: int, wait: bool) -> bytes | bytearray:
        try:
            data = self._pread_once(start, stop, wait)
        except BlockingIOError:
            raise
        except OSError as error:
            raise Corrupt(f"reading failed: {error.strerror}") from error
        if len(data) < stop - start:
            raise Truncated("the file ended early")
        return data

    def _pread_once(self, start: int, stop: int, wait: bool) -> bytes | bytearray:
        if wait:
            return os.pread(self._file, stop - start, start)
        buffer = bytearray(stop - start)
        if os.preadv(self._file, [buffer], start, os.RWF_NOWAIT) < len(buffer):
            raise BlockingIOError
        return buffer


def _identity(file: int) -> Identity:
    stat = os.fstat(file)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
