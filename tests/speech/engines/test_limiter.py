"""How many calls run at once, as the settings allow and as the provider says."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from servers.fake_provider import API_KEY, Fake
from soundkeep.errors import EngineThrottled
from soundkeep.speech.engines.elevenlabs import ElevenLabsEngine
from soundkeep.speech.engines.limiter import Limiter
from soundkeep.testing.engine_contract import hear
from speech.engines.asking import asked

MODEL, VOICE = "eleven_multilingual_v2", "21m00Tcm4TlvDq8ikWAM"
BOUND_SECONDS = 20


def told(maximum: int, current: int) -> dict[str, str]:
    return {
        "maximum-concurrent-requests": str(maximum),
        "current-concurrent-requests": str(current),
    }


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Crowd:
    """Callers who hold their places until they are let go."""

    def __init__(self, limiter: Limiter, size: int) -> None:
        self.inside = 0
        self.peak = 0
        self.door = asyncio.Event()
        self.callers = [asyncio.ensure_future(self._call(limiter)) for _ in range(size)]

    async def _call(self, limiter: Limiter) -> None:
        async with limiter.place():
            self.inside += 1
            self.peak = max(self.peak, self.inside)
            await self.door.wait()
            self.inside -= 1

    async def leaves(self) -> None:
        self.door.set()
        async with asyncio.timeout(BOUND_SECONDS):
            await asyncio.wait(self.callers)


async def test_no_more_run_at_once_than_is_set_and_all_get_their_turn() -> None:
    limiter = Limiter("engine", 3, patience_seconds=1)
    crowd = Crowd(limiter, 20)
    await turns()
    assert crowd.inside == 3
    await crowd.leaves()
    assert crowd.peak == 3
    assert limiter.in_use == 0


async def test_the_provider_may_allow_less_than_is_set_but_never_more() -> None:
    limiter = Limiter("engine", 5, patience_seconds=1)
    limiter.heed(told(maximum=2, current=0))
    assert limiter.limit == 2
    limiter.heed(told(maximum=50, current=0))
    assert limiter.limit == 5


async def test_what_others_use_of_the_account_is_not_ours() -> None:
    limiter = Limiter("engine", 5, patience_seconds=1)
    async with limiter.place():
        limiter.heed(told(maximum=5, current=4))  # one of them is ours
        assert limiter.limit == 2


async def test_there_is_always_one_place_or_nobody_would_learn_of_better_times() -> None:
    limiter = Limiter("engine", 5, patience_seconds=1)
    limiter.heed(told(maximum=3, current=9))
    assert limiter.limit == 1


async def test_headers_that_are_no_numbers_are_passed_over() -> None:
    limiter = Limiter("engine", 5, patience_seconds=1)
    for maximum in ("", "-1", "many", "9" * 400, "0"):
        limiter.heed({"maximum-concurrent-requests": maximum})
    assert limiter.limit == 5


async def test_better_times_let_those_in_who_wait() -> None:
    limiter = Limiter("engine", 4, patience_seconds=1)
    limiter.heed(told(maximum=1, current=0))
    crowd = Crowd(limiter, 4)
    await turns()
    assert crowd.inside == 1
    limiter.heed(told(maximum=9, current=1))
    await turns()
    assert crowd.inside == 4
    await crowd.leaves()


async def test_who_goes_away_while_waiting_or_just_woken_takes_no_place_along() -> None:
    limiter = Limiter("engine", 1, patience_seconds=1)
    for rounds in range(6):
        async with AsyncExitStack() as holding:
            await holding.enter_async_context(limiter.place())
            crowd = Crowd(limiter, 3)
            await turns()
        for _ in range(rounds):
            await asyncio.sleep(0)
        crowd.callers[0].cancel()
        await crowd.leaves()
        assert limiter.in_use == 0


async def test_a_long_pause_is_told_and_a_short_one_is_waited_for() -> None:
    limiter = Limiter("engine", 1, patience_seconds=5)
    limiter.pause(0.01)
    async with limiter.place():
        pass
    limiter.pause(3600)
    with pytest.raises(EngineThrottled) as raised:
        async with limiter.place():
            raise AssertionError("nobody may begin now")
    assert raised.value.retry_after is not None
    assert raised.value.retry_after > 3500
    assert limiter.in_use == 0


async def test_a_crowd_never_asks_for_more_than_the_account_allows(fake_elevenlabs: Fake) -> None:
    """The first answer tells; until then one call runs ahead of the others, or is refused free."""
    fake_elevenlabs.behave(maximum=2, delay_seconds=0.05)
    engine = ElevenLabsEngine("eleven", API_KEY, base_url=fake_elevenlabs.url, concurrency=2)
    what = [asked(engine, MODEL, VOICE, f"Sentence number {number}.") for number in range(8)]
    heard = await asyncio.gather(*(hear(engine, one) for one in what))
    assert all(each.audio for each in heard)
    counts = fake_elevenlabs.charges()
    assert (counts["calls"], counts["charges"], counts["peak"]) == (8, 8, 2)
    await engine.close()


async def test_the_limit_of_the_account_is_learned_from_an_answer(fake_elevenlabs: Fake) -> None:
    fake_elevenlabs.behave(maximum=4, others=2)
    engine = ElevenLabsEngine("eleven", API_KEY, base_url=fake_elevenlabs.url, concurrency=8)
    await hear(engine, asked(engine, MODEL, VOICE))
    fake_elevenlabs.behave(delay_seconds=0.05)
    what = [asked(engine, MODEL, VOICE, f"Sentence number {number}.") for number in range(6)]
    await asyncio.gather(*(hear(engine, one) for one in what))
    counts = fake_elevenlabs.charges()
    assert (counts["calls"], counts["charges"], counts["peak"]) == (7, 7, 2)
    await engine.close()
