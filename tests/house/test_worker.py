"""The worker's housekeeping goes on whatever happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

from soundkeep.build import opened
from soundkeep.settings import Settings
from soundkeep.settings.house import WorkerSettings
from soundkeep.worker import Worker

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
