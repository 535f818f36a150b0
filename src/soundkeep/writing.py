"""The system's word for a failed write, in ours."""

from __future__ import annotations

import errno

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
