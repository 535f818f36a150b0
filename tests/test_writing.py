"""Files of our own: nothing of a process that died stays on the disk for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from soundkeep import build
from soundkeep.build.house import ASSEMBLING
from soundkeep.errors import WriteFailed
from soundkeep.settings import Settings
from soundkeep.writing import desk

LONG_AGO = time.time() - 2 * 86_400


def left_behind(folder: Path, *, touched_at: float) -> Path:
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "part.pcm").write_bytes(b"samples")
    os.utime(folder / "0" / "part.pcm", (touched_at, touched_at))
    for each in (folder / "0", folder):
        os.utime(each, (LONG_AGO, LONG_AGO))
    return folder


async def test_what_a_process_left_that_died_over_its_work_goes_after_a_day(
    tmp_path: Path,
) -> None:
    async with build.opened(Settings(data=tmp_path)) as house:
        desks = tmp_path / ASSEMBLING
        left = left_behind(desks / "left", touched_at=LONG_AGO)
        in_use = left_behind(desks / "in use", touched_at=time.time())
        await house.tidy()
        assert not left.exists()
        assert (in_use / "0" / "part.pcm").read_bytes() == b"samples"


def test_a_folder_that_cannot_be_made_is_said_in_our_words(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match="data directory"), desk(tmp_path / "absent"):
        pass
