"""What a provider lists is remembered, but not for ever, and not against its will."""

from __future__ import annotations

import asyncio

import pytest

from soundkeep.errors import EngineUnauthorised, EngineUnavailable
from soundkeep.speech.engines import listing as module
from soundkeep.speech.engines.interface import Voice
from soundkeep.speech.engines.listing import Listing


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Source:
    """A list that somebody keeps; it can be out, and counts who asks."""

    def __init__(self, *ids: str) -> None:
        self.ids = list(ids)
        self.asked = 0
        self.error: Exception | None = None

    async def __call__(self) -> list[Voice]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return [Voice(id_, id_) for id_ in self.ids]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


async def test_a_crowd_asks_once(clock: Clock) -> None:
    source = Source("a")
    listing = Listing(source, 60)
    found = await asyncio.gather(*(listing.find("a") for _ in range(30)))
    assert all(found)
    assert source.asked == 1


async def test_it_is_asked_again_when_its_time_is_over(clock: Clock) -> None:
    source = Source("a")
    listing = Listing(source, 60)
    await listing.all()
    clock.now += 59
    await listing.all()
    assert source.asked == 1
    source.ids = ["b"]
    clock.now += 2
    assert [voice.id for voice in await listing.all()] == ["b"]


async def test_a_new_name_is_found_before_the_time_is_over(clock: Clock) -> None:
    source = Source("a")
    listing = Listing(source, 3600)
    await listing.all()
    source.ids.append("b")
    clock.now += 11
    assert await listing.find("b")
    assert source.asked == 2


async def test_a_wrong_name_asked_again_and_again_does_not_ask_each_time(clock: Clock) -> None:
    source = Source("a")
    listing = Listing(source, 3600)
    for _ in range(50):
        assert await listing.find("nobody") is None
    assert source.asked == 1


async def test_who_cannot_be_asked_now_is_believed_what_was_said_last(clock: Clock) -> None:
    source = Source("a")
    listing = Listing(source, 60)
    await listing.all()
    source.error = EngineUnavailable("out")
    clock.now += 61
    assert await listing.find("a")


async def test_a_refusal_of_our_key_is_no_passing_fault(clock: Clock) -> None:
    source = Source("a")
    listing = Listing(source, 60)
    await listing.all()
    source.error = EngineUnauthorised("no")
    clock.now += 61
    with pytest.raises(EngineUnauthorised):
        await listing.all()


async def test_without_any_list_the_fault_is_told_each_time(clock: Clock) -> None:
    source = Source("a")
    source.error = EngineUnavailable("out")
    listing = Listing(source, 60)
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            await listing.find("a")
    source.error = None
    assert await listing.find("a")
