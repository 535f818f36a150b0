"""Many waits under one timer: each has its own time, and a cancellation stays whose it is."""

from __future__ import annotations

import asyncio

import pytest

from soundkeep.errors import TimedOut
from soundkeep.stores.waits import Waits

SHORT = 0.03


async def test_a_wait_that_takes_too_long_is_ended_and_the_task_goes_on() -> None:
    waits = Waits(SHORT, "too late")
    for _ in range(2):
        with pytest.raises(TimedOut, match="too late"), waits:
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_each_wait_has_the_whole_time() -> None:
    waits = Waits(1, "too late")
    for _ in range(5):
        with waits:
            await asyncio.sleep(0.25)
    waits.close()


async def test_nobody_is_disturbed_between_two_waits() -> None:
    waits = Waits(SHORT, "too late")
    with waits:
        pass
    await asyncio.sleep(2 * SHORT)
    with pytest.raises(TimedOut), waits:
        await asyncio.Event().wait()


async def test_a_foreign_cancellation_stays_one() -> None:
    waits = Waits(30, "too late")

    async def wait() -> None:
        with waits:
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    waits.close()


async def test_a_foreign_cancellation_in_the_same_moment_is_not_taken_for_ours() -> None:
    waits = Waits(SHORT, "too late")

    async def wait() -> None:
        with waits:
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_fault_of_the_awaited_passes_through() -> None:
    waits = Waits(30, "too late")
    with pytest.raises(ValueError, match="mine"), waits:
        raise ValueError("mine")
    waits.close()
