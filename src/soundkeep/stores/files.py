"""Files and directories, the careful way: opened without surprises, published whole, synced.

Shared by what reads and writes files in this room. Raises `OSError`; `local` translates it.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from soundkeep.stores.threads import Draft

PLACING_ATTEMPTS = 10

_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hang us
_WRITING = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL
_NOT_A_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


class OpenFile:
    """A file opened for reading, closed with the last reference to it.

    A thread that still reads holds one. So the number is never given to another file under a
    running read, and an opening that nobody waits for any more leaks nothing.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.size_bytes = os.fstat(number).st_size

    def read(self, size_bytes: int, at: int) -> bytes:
        """Up to so many bytes from there on; none at the end."""
        return os.pread(self._number, size_bytes, at)

    def __del__(self) -> None:
        os.close(self._number)


def open_regular(path: Path) -> OpenFile | None:
    """The file, or None if there is no regular file: links are not followed."""
    try:
        number = os.open(path, _READING)
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            return None
        raise
    if stat.S_ISREG(os.fstat(number).st_mode):
        return OpenFile(number)
    os.close(number)
    return None


TAKEN_OVER = 2  # names of a file in the inbox that one store has taken over


class FileDraft(Draft):
    """A temporary file that becomes the file at `target`, on the same file system."""

    def __init__(self, drafts: Path, target: Path, root: Path) -> None:
        super().__init__()
        self._path = drafts / uuid.uuid4().hex
        self._target = target
        self._root = root
        self._number: int | None = None

    def link(self, file: Path, size_bytes: int) -> bool:
        """Takes over a file of that size without reading it; whether it did.

        Only where nothing lies yet: what a repair mends may be this very inode. And only if no
        other store has taken it over: two copies in one inode rot as one. The bytes are on the
        disk already, since whoever offers a file has synced it.
        """
        with self.step():
            if not _may_be_taken_over(file, size_bytes):
                return False
            try:
                place(partial(os.link, file, self._target, follow_symlinks=False), self._target)
            except OSError:
                return False  # something is there, or another file system: writing will tell
            if self._target.stat().st_nlink > TAKEN_OVER:  # by two stores at the same moment
                self._target.unlink()
                return False
        sync_up_to(self._root, self._target.parent)
        return True

    def begin(self) -> None:
        """Makes the temporary file."""
        with self.step():
            self._number = os.open(self._path, _WRITING, 0o666)

    def write(self, data: bytes) -> None:
        """Adds bytes."""
        with self.step():
            assert self._number is not None
            view = memoryview(data)
            while view:
                view = view[os.write(self._number, view) :]

    def publish(self) -> None:
        """The bytes reach the disk, then the name, then the directories that lead to it."""
        with self.step():
            assert self._number is not None
            os.fsync(self._number)  # never tried again: see the module `local`
            self._close()
            self._refuse_abandoned()  # a disk that hangs may have kept us for minutes
            place(lambda: self._path.replace(self._target), self._target)
        sync_up_to(self._root, self._target.parent)

    def remove(self) -> None:
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._number is not None:
            number, self._number = self._number, None
            os.close(number)


def _may_be_taken_over(file: Path, size_bytes: int) -> bool:
    try:
        found = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size_bytes and found.st_nlink == 1


def place(move: Callable[[], object], target: Path) -> None:
    """Makes the directories of `target`, then calls `move`, which brings the file there.

    Again if a delete, just then, took an empty directory away.
    """
    for _ in range(PLACING_ATTEMPTS - 1):
        with suppress(FileNotFoundError):
            if _is_made(target.parent):
                move()
                return
    target.parent.mkdir(parents=True, exist_ok=True)
    move()


def _is_made(directory: Path) -> bool:
    """Whether it is there now. A directory can go between "it exists" and "what is it?"."""
    with suppress(FileExistsError):
        directory.mkdir(parents=True, exist_ok=True)
        return True
    return False


def sync_up_to(root: Path, directory: Path) -> None:
    """Syncs `directory` and those above it as far as `root`.

    All of them, not only those that were missing: another writer may have made one and not have
    synced it yet. A directory with nothing to write costs 60 µs.
    """
    while True:
        sync_directory(directory)
        if directory == root:
            return
        directory = directory.parent


def sync_directory(directory: Path) -> None:
    """Makes what was created, renamed and removed in it last.

    A directory that is gone was empty: what was in it has been removed by somebody.
    """
    try:
        number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


def make_directories(directory: Path) -> None:
    """Makes the directory and those that lead to it, and each of them last."""
    if not directory.is_dir():
        make_directories(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def remove_empty(root: Path, directory: Path) -> None:
    """Removes `directory` and those above it while they are empty, but never `root`."""
    with suppress(OSError):
        while directory != root:
            directory.rmdir()
            directory = directory.parent


def remove_if_old(path: Path, before: float) -> bool:
    """Removes a file last written before that moment; whether it did."""
    with suppress(FileNotFoundError):  # who made it may remove it too
        if path.lstat().st_mtime <= before:
            path.unlink()
            return True
    return False
