"""The worker's housekeeping goes on whatever happens, and it is done only when all is done."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from soundkeep.build import opened
from soundkeep.intake.recording import NewTrack
from soundkeep.settings import Settings
from soundkeep.settings.house import WorkerSettings
from soundkeep.worker import Worker
from sounds import wav

BOUND_SECONDS = 20


async def test_a_fault_of_ours_does_not_end_the_housekeeping(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, worker=WorkerSettings(coverage_seconds=0.01))
    counted = 0
    again = asyncio.Event()

    async def fail() -> None:
        nonlocal counted
        counted += 1
        if counted > 2:
            again.set()
        raise ValueError("a fault of ours")

    async with opened(settings) as house:
        worker = Worker(house)
        worker._count = fail  # type: ignore[method-assign]
        worker.start()
        async with asyncio.timeout(BOUND_SECONDS):
            await again.wait()
        await worker.stop(1)


async def test_what_is_claimed_while_one_looks_is_not_called_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claimed row is due only when its lease ends: whoever looks then sees nothing due."""
    sound = tmp_path / "sound.wav"
    sound.write_bytes(wav(5_000, 1))
    async with opened(Settings(data=tmp_path / "data")) as house:
        worker = Worker(house, resident=False)
        worker._placed = True
        await house.keep.add_file(sound, NewTrack(path="sound.wav"))
        await house.keep.copying()
        assert await worker._is_busy()
        read = house.keep.catalog.read

        async def claimed_meanwhile(*asked: Any) -> Any:
            for pair in worker._pairs:
                await worker._claim(pair, 9)
            return await read(*asked)

        monkeypatch.setattr(house.keep.catalog, "read", claimed_meanwhile)
        assert await worker._is_busy()
        monkeypatch.undo()
        worker.start()
        assert await worker.settle(BOUND_SECONDS)
        await worker.stop(1)
        assert (await house.keep.check()).passed
