"""Files of our own: the system's word for a failed write in ours, and folders for work in hand."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from soundkeep.errors import DiskFull, WriteFailed

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class writing:  # noqa: N801 - reads as the statement it is
    """`with writing("the inbox"):` raises `DiskFull` and `WriteFailed` in place of `OSError`."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError) or error.errno is None:  # a time-out has none
            return
        if error.errno in NO_ROOM:
            raise DiskFull(f"{self._where}'s disk is full; nothing was kept") from error
        raise WriteFailed(f"{self._where} cannot be written: {error.strerror}") from error


@contextmanager
def desk(folder: Path) -> Iterator[Path]:
    """A new folder in this one, gone at the end. Raises `DiskFull`, `WriteFailed`."""
    with writing("the data directory"), tempfile.TemporaryDirectory(dir=folder) as made:
        yield Path(made)


def clear_desks(folder: Path, older_than: timedelta) -> int:
    """Removes what processes left that died over their work; answers how many desks."""
    horizon = time.time() - older_than.total_seconds()
    left = [each for each in folder.iterdir() if _last_touched(each) < horizon]
    for each in left:
        shutil.rmtree(each, ignore_errors=True)
    return len(left)


def _last_touched(path: Path) -> float:
    """By anybody, anywhere in it. What goes away meanwhile is in use."""
    try:
        return max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()
