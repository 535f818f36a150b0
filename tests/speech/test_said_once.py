"""Said once, paid once: many callers in many processes, and a provider that counts its charges."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledgers import opened
from servers.fake_provider import API_KEY, Fake, running
from servers.speakers import OWNER, Speaker, speaking
from soundkeep.catalog import money, segments
from soundkeep.catalog import speaking as speaking_rows
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.money import Intent, IntentState
from soundkeep.catalog.speaking import Held
from soundkeep.model import Segment
from soundkeep.speech.asked import Asked
from soundkeep.speech.keys import segment_key

PROCESSES, CALLERS = 4, 50
TEXT = "It was said once, and it was paid for once, however many wanted to hear it."
KEY = segment_key(Asked("fake", "tts-1", "nova", TEXT, None, 1, {}, "mp3"))
WITHIN_SECONDS = 60
PRICE = 1000  # of a thousand characters: each costs 1


@pytest.fixture(scope="module")
def provider() -> Iterator[Fake]:
    with running("servers.fake_openai", "--delay", "2", "--piece-seconds", "0.05") as fake:
        yield fake


@pytest.fixture
def fake(provider: Fake) -> Fake:
    provider.reset()
    provider.behave(delay_seconds=2, piece_seconds=0.02)
    return provider


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


@pytest.fixture
def settings(
    fake: Fake, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Those of every process of a test."""
    monkeypatch.setenv("KEY_OF_THE_FAKE", API_KEY)
    engine = {
        "kind": "openai",
        "base_url": f"{fake.url}/v1",
        "api_key": "env:KEY_OF_THE_FAKE",
        "price": PRICE,
        "concurrency": 50,
        "voices": ["nova"],
        "captions": False,
    }
    return {
        "data": str(tmp_path / "data"),
        "catalog": database_url,
        "speech": {"engines": {"fake": engine}},
    }


@pytest.fixture
def speakers(settings: dict[str, Any], tmp_path: Path, catalog: Catalog) -> Iterator[list[Speaker]]:
    with speaking(settings, tmp_path / "settings.json", PROCESSES) as started:
        yield started


def answers_of(speakers: list[Speaker]) -> list[str]:
    return [answer for speaker in speakers for answer in speaker.answer()]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


async def calls_for(catalog: Catalog, key: str = KEY) -> list[Intent]:
    return await catalog.read(money.of_segment, key)


async def kept(catalog: Catalog, key: str = KEY) -> str:
    """The digest of what is kept under the key."""
    found = await catalog.read(segments.find, key)
    assert isinstance(found, Segment)
    return found.digest.hex


async def test_200_callers_in_4_processes_pay_once_and_hear_the_same(
    speakers: list[Speaker], fake: Fake, catalog: Catalog
) -> None:
    for speaker in speakers:
        speaker.tell("ask", [TEXT], CALLERS)
    answers = await asyncio.to_thread(answers_of, speakers)
    assert len(answers) == PROCESSES * CALLERS
    assert set(answers) == {await kept(catalog)}
    assert fake.charges()["charges"] == 1
    [call] = await calls_for(catalog)
    assert (call.state, call.characters) == (IntentState.DONE, len(TEXT))


async def test_all_hang_up_and_ask_again_and_still_it_is_paid_once(
    speakers: list[Speaker], fake: Fake, catalog: Catalog
) -> None:
    for command, expected in (("begin", "begun"), ("hang_up", "gone")):
        for speaker in speakers:
            speaker.tell(command, [TEXT], CALLERS)
        assert set(answers_of(speakers)) == {expected}
        until(lambda: fake.charges()["charges"] == 1)
    for speaker in speakers:
        speaker.tell("ask", [TEXT], CALLERS)
    answers = await asyncio.to_thread(answers_of, speakers)
    assert set(answers) == {await kept(catalog)}
    assert len(answers) == PROCESSES * CALLERS
    assert fake.charges()["charges"] == 1
    assert fake.charges()["hung_up"] == 0
    assert len(await calls_for(catalog)) == 1


async def test_a_leader_that_is_killed_costs_one_charge_more_at_most_and_is_unknown(
    speakers: list[Speaker], fake: Fake, catalog: Catalog
) -> None:
    for speaker in speakers:
        speaker.tell("ask", [TEXT], CALLERS)
    await asyncio.to_thread(until, lambda: fake.charges()["charges"] == 1)
    held = await catalog.read(speaking_rows.look, KEY)
    assert isinstance(held, Held)
    [leader] = [each for each in speakers if f"/{each.pid}/" in held.holder]
    os.kill(leader.pid, signal.SIGKILL)
    leader.process.wait(WITHIN_SECONDS)
    answers = await asyncio.to_thread(answers_of, [each for each in speakers if each is not leader])
    assert len(answers) == (PROCESSES - 1) * CALLERS
    assert set(answers) == {await kept(catalog)}
    assert fake.charges()["charges"] == 2
    states = [call.state for call in await calls_for(catalog)]
    assert states == [IntentState.UNKNOWN, IntentState.DONE]
    month = money.month_of(await catalog.read(lambda tx: tx.now()))
    spent = await catalog.read(money.spent, OWNER, month)
    assert spent["USD"].amount == 2 * len(TEXT), "what is unknown counts as spent"


async def test_of_50_parallel_misses_a_budget_for_10_pays_10(
    settings: dict[str, Any], fake: Fake, catalog: Catalog, tmp_path: Path
) -> None:
    texts = [f"This is text number {number:02}." for number in range(50)]
    settings["speech"]["budgets"] = {OWNER: 10 * len(texts[0])}
    with speaking(settings, tmp_path / "settings.json", PROCESSES) as speakers:
        for number, speaker in enumerate(speakers):
            speaker.tell("ask", texts[number::PROCESSES])
        answers = await asyncio.to_thread(answers_of, speakers)
        assert answers.count("over_budget") == 40
        assert fake.charges()["charges"] == 10
        assert fake.charges()["calls"] == 10
        assert (await catalog.read(money.counted))[IntentState.DONE] == 10
