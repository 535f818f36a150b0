"""Many small transactions as one: each caller gets its own result, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from soundkeep.catalog.gathering import Gathered


class Doubling:
    """Doubles numbers, when it may; remembers what came together."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.together: list[list[int]] = []

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.together.append(numbers)
        await self.may_go_on.wait()
        if 13 in numbers:
            raise ValueError("no luck")
        return [2 * number for number in numbers]


async def begun(gathered: Gathered[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.ensure_future(call(gathered, number)) for number in numbers]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def call(gathered: Gathered[int, int], number: int) -> int:
    return await gathered(number)


async def test_what_comes_while_one_runs_goes_together_into_the_next() -> None:
    doubling = Doubling()
    gathered = Gathered(doubling)
    tasks = [*await begun(gathered, 1), *await begun(gathered, 2, 3)]
    doubling.may_go_on.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert doubling.together == [[1], [2, 3]]
    assert await gathered(4) == 8


async def test_an_error_is_told_to_all_that_went_together_and_to_no_other() -> None:
    doubling = Doubling()
    gathered = Gathered(doubling)
    tasks = [*await begun(gathered, 1), *await begun(gathered, 13, 3)]
    doubling.may_go_on.set()
    assert await tasks[0] == 2
    for task in tasks[1:]:
        with pytest.raises(ValueError, match="no luck"):
            await task
    assert await gathered(4) == 8


async def test_one_that_is_cancelled_does_not_keep_the_others_waiting() -> None:
    doubling = Doubling()
    gathered = Gathered(doubling)
    one, two, three = [*await begun(gathered, 1), *await begun(gathered, 2, 3)]
    for task in (one, two):
        task.cancel()
    doubling.may_go_on.set()
    assert await three == 6
    assert one.cancelled() or one.cancelling()
