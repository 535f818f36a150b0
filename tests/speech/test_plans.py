"""Plans: spoken by and by, within their budget and their hours, whoever dies in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from servers.fake_provider import API_KEY, Fake, running
from servers.soundkeep import Server, eventually
from servers.soundkeep import running as serving
from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import plan_items, speeches
from soundkeep.catalog.plan_items import Taken
from soundkeep.catalog.plans import Plan, PlanState
from soundkeep.catalog.speeches import Speech
from soundkeep.errors import BadSpeech, BadText, NoSuchPlan, PlanIsOver, UnknownVoice
from soundkeep.settings import Settings
from soundkeep.speech.asked import Asked
from soundkeep.speech.keys import asked_of, segment_key
from soundkeep.speech.plan_request import Window, plan_request

WITHIN_SECONDS = 60
TEXTS = [f"This is text number {number}." for number in range(6)]
COST = len(TEXTS[0])  # of each: a character costs 1
NIGHT = 22 * 3600


@pytest.fixture(scope="module")
def provider() -> Iterator[Fake]:
    with running("servers.fake_openai") as fake:
        yield fake


@pytest.fixture
def fake(provider: Fake) -> Fake:
    provider.reset()
    return provider


@pytest.fixture
def speech_settings(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("KEY_OF_THE_FAKE", API_KEY)
    engine = {
        "kind": "openai",
        "base_url": f"{fake.url}/v1",
        "api_key": "env:KEY_OF_THE_FAKE",
        "price": 1000,
        "voices": ["nova", "echo"],
        "models": ["tts-1"],
        "captions": False,
        "tries": 1,
    }
    return {"engines": {"fake": engine}, "lease_seconds": 2}


@pytest.fixture
def settings(speech_settings: dict[str, Any], tmp_path: Path, database_url: str) -> Settings:
    return Settings(data=tmp_path / "data", catalog=database_url, speech=speech_settings)


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    async with build.opened(settings) as house:
        yield house


@asynccontextmanager
async def at_work(house: House) -> AsyncIterator[None]:
    working = asyncio.create_task(house.plans.work())
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def made(house: House, **fields: Any) -> Plan:
    given = {"texts": TEXTS, "voices": ["nova"], "model": "tts-1", **fields}
    return await house.plans.make(plan_request(given))


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while not await is_so():
            await asyncio.sleep(0.05)


async def until_it_is(house: House, plan: Plan, state: PlanState) -> Plan:
    async def is_so() -> bool:
        return (await house.plans.find(plan.id)).state is state

    await until(is_so)
    return await house.plans.find(plan.id)


def texts_of(fake: Fake) -> list[str]:
    return [call["body"]["input"] for call in fake.charges()["asked"]]


def voices_of(fake: Fake) -> list[str]:
    return [call["body"]["voice"] for call in fake.charges()["asked"]]


# --- spoken ---------------------------------------------------------------------------------


async def test_every_text_is_spoken_once_in_every_voice_and_progress_says_so(
    house: House, fake: Fake
) -> None:
    plan = await made(house, voices=["nova", "echo"], name="a book")
    assert (plan.state, plan.progress.segments, plan.progress.done) == (PlanState.RUNNING, 12, 0)
    assert plan.progress.left.amount == 12 * COST
    async with at_work(house):
        plan = await until_it_is(house, plan, PlanState.DONE)
    assert (plan.progress.done, plan.progress.characters_done) == (12, 12 * COST)
    assert (plan.spent.amount, plan.progress.left.amount) == (12 * COST, 0)
    assert fake.charges()["charges"] == 12
    assert set(fake.charges()["texts"].values()) == {2}
    assert texts_of(fake)[:4] == [TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[1]]


async def test_who_asks_afterwards_finds_it_without_a_call(house: House, fake: Fake) -> None:
    plan = await made(house, texts=["One.\n\nTwo."])
    async with at_work(house):
        await until_it_is(house, plan, PlanState.DONE)
    for text in ("One.", "Two."):
        said = await house.generation.ask(
            Asked("fake", "tts-1", "nova", text, None, 1, {}, "mp3"), "anna"
        )
        assert said.hit
    assert fake.charges()["calls"] == 2


async def test_what_was_spoken_before_is_done_already_and_costs_nothing(
    house: House, fake: Fake
) -> None:
    first = await made(house, texts=TEXTS[:3])
    async with at_work(house):
        await until_it_is(house, first, PlanState.DONE)
    second = await made(house)
    assert (second.progress.done, second.progress.left.amount) == (3, 3 * COST)
    async with at_work(house):
        second = await until_it_is(house, second, PlanState.DONE)
    assert second.spent.amount == 3 * COST
    assert fake.charges()["charges"] == 6


async def test_popular_voices_come_first_if_that_was_asked_for(house: House, fake: Fake) -> None:
    asked = Asked("fake", "tts-1", "echo", "I am liked.", None, 1, {}, "mp3")
    for _ in range(3):
        await house.generation.segment(asked, "admin")
    await house.generation.counts.flush(house.keep.catalog)
    fake.reset()
    plan = await made(house, voices=["nova", "echo"], texts=TEXTS[:3], order="popular")
    assert plan.voices == ("echo", "nova")
    async with at_work(house):
        await until_it_is(house, plan, PlanState.DONE)
    assert voices_of(fake) == ["echo"] * 3 + ["nova"] * 3


async def test_what_the_engine_does_not_have_is_refused_before_there_is_a_plan(
    house: House, fake: Fake
) -> None:
    with pytest.raises(UnknownVoice):
        await made(house, voices=["nova", "nobody"])
    assert await house.plans.page() == []
    assert fake.charges()["calls"] == 0


# --- money ----------------------------------------------------------------------------------


async def test_it_stops_exactly_at_its_budget_and_goes_on_under_a_greater_one(
    house: House, fake: Fake
) -> None:
    plan = await made(house, budget=4 * COST)
    async with at_work(house):
        plan = await until_it_is(house, plan, PlanState.OVER_BUDGET)
        assert fake.charges()["calls"] == 4
        assert plan.spent.amount == 4 * COST
        assert plan.error is not None
        assert f"{4 * COST}.0000 of {4 * COST}.0000 USD" in plan.error
        await house.plans.resume(plan.id, Decimal(5 * COST))
        await until_it_is(house, plan, PlanState.OVER_BUDGET)
        assert fake.charges()["calls"] == 5
        await house.plans.resume(plan.id, Decimal(6 * COST))
        plan = await until_it_is(house, plan, PlanState.DONE)
    assert (fake.charges()["charges"], plan.spent.amount) == (6, 6 * COST)


async def test_many_workers_together_keep_the_budget(
    fake: Fake, speech_settings: dict[str, Any], tmp_path: Path, database_url: str
) -> None:
    speech_settings["engines"]["fake"]["concurrency"] = 5
    fake.behave(delay_seconds=0.2)
    settings = Settings(data=tmp_path / "data", catalog=database_url, speech=speech_settings)
    async with build.opened(settings) as one, build.opened(settings) as two:
        plan = await made(one, budget=3 * COST)
        async with at_work(one), at_work(two):
            plan = await until_it_is(one, plan, PlanState.OVER_BUDGET)
    assert (fake.charges()["charges"], plan.spent.amount) == (3, 3 * COST)


async def test_the_budget_of_its_owner_stops_it_too(
    fake: Fake, speech_settings: dict[str, Any], tmp_path: Path
) -> None:
    speech_settings["budgets"] = {"anna": 2 * COST}
    async with build.opened(Settings(data=tmp_path, speech=speech_settings)) as house:
        plan = await made(house, owner="anna")
        async with at_work(house):
            plan = await until_it_is(house, plan, PlanState.OVER_BUDGET)
    assert fake.charges()["calls"] == 2
    assert plan.error is not None
    assert "anna has spent" in plan.error


async def test_a_budget_without_a_price_is_refused(
    fake: Fake, speech_settings: dict[str, Any], tmp_path: Path
) -> None:
    del speech_settings["engines"]["fake"]["price"]
    async with build.opened(Settings(data=tmp_path, speech=speech_settings)) as house:
        with pytest.raises(BadSpeech, match="price"):
            await made(house, budget=10)
        assert (await made(house)).budget is None


async def test_a_worker_that_died_in_mid_call_is_counted_until_its_cost_is_known(
    house: House, fake: Fake
) -> None:
    """It took an item, called, paid, and never wrote down that the item was done."""
    plan = await made(house, texts=TEXTS[:2], budget=2 * COST)
    taken = await house.keep.catalog.write(
        plan_items.take, plan.id, holder=f"{house.keep.settings.host_name}/1/0", lease_seconds=0.3
    )
    assert isinstance(taken, Taken)
    await house.generation.segment(asked_of(taken.request), "admin")
    assert (await house.plans.find(plan.id)).spent.amount == COST
    async with at_work(house):
        plan = await until_it_is(house, plan, PlanState.DONE)
    assert (fake.charges()["charges"], plan.spent.amount) == (2, 2 * COST)


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "second", "opens_in"),
    [
        ("22:00-06:00", NIGHT, 0),
        ("22:00-06:00", NIGHT - 1, 1),
        ("22:00-06:00", 0, 0),
        ("22:00-06:00", 6 * 3600 - 1, 0),
        ("22:00-06:00", 6 * 3600, 16 * 3600),
        ("09:30-10:00", 9 * 3600, 1800),
        ("22:00-06:00+02:00", NIGHT - 2 * 3600, 0),
        ("22:00-06:00+02:00", 4 * 3600, 16 * 3600),
        ("22:00-06:00-05:30", 3 * 3600, 1800),
        ("00:00-23:59Z", 86399, 1),
    ],
)
def test_a_window_opens_and_closes_to_the_second(window: str, second: int, opens_in: float) -> None:
    assert Window.parse(window).opens_in(20_000 * 86_400 + second) == opens_in


@pytest.mark.parametrize("text", ["", "22-6", "24:00-06:00", "06:00-06:00", "22:00-06:00+20:00"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(BadSpeech, match="window"):
        Window.parse(text)


def closed_now(clock: float) -> str:
    """A window of one hour that is twelve hours away."""
    hour = int(clock // 3600 + 12) % 24
    return f"{hour:02}:00-{(hour + 1) % 24:02}:00"


async def test_while_its_window_is_closed_nothing_is_called(house: House, fake: Fake) -> None:
    clock = await house.keep.catalog.read(lambda tx: tx.now())
    closed = await made(house, window=closed_now(clock))
    other = await made(house, texts=["This one may."])
    async with at_work(house):
        await until_it_is(house, other, PlanState.DONE)
        await asyncio.to_thread(eventually, lambda: fake.charges()["calls"] == 1)
    assert texts_of(fake) == ["This one may."]
    assert (await house.plans.find(closed.id)).progress.done == 0


async def test_the_rate_is_kept_by_all_workers_together(house: House, fake: Fake) -> None:
    plan = await made(house, rate=60)
    take = plan_items.take
    one = await house.keep.catalog.write(take, plan.id, holder="a/1/1", lease_seconds=30)
    two = await house.keep.catalog.write(take, plan.id, holder="b/1/1", lease_seconds=30)
    assert isinstance(one, Taken)
    assert isinstance(two, float)
    assert 0 < two <= 1.0, "a segment a second"


# --- faults ---------------------------------------------------------------------------------


async def test_a_provider_that_is_out_is_asked_along_the_curve_and_not_once_for_each_segment(
    house: House, fake: Fake
) -> None:
    fake.behave(fault="unavailable")
    plan = await made(house)
    async with at_work(house):

        async def has_failed() -> bool:
            return (await house.plans.find(plan.id)).error is not None

        await until(has_failed)
        assert fake.charges()["calls"] <= 2
        failing = await house.plans.failing(plan.id)
        assert [each.error.partition(":")[0] for each in failing] == ["engine_unavailable"]
        fake.behave(fault="")
        plan = await until_it_is(house, plan, PlanState.DONE)
    assert (fake.charges()["charges"], plan.progress.done, plan.error) == (6, 6, None)


async def test_what_never_will_be_spoken_is_named_and_the_others_go_on(
    house: House, fake: Fake
) -> None:
    fake.behave(fault="unprocessable", times=1)
    plan = await made(house)
    async with at_work(house):
        plan = await until_it_is(house, plan, PlanState.DONE)
        assert (plan.progress.done, plan.progress.failed) == (5, 1)
        [failing] = await house.plans.failing(plan.id)
        assert failing.error.startswith("engine_refused")
        await house.plans.resume(plan.id)
        plan = await until_it_is(house, plan, PlanState.DONE)
    assert (plan.progress.done, plan.progress.failed) == (6, 0)


# --- stopping -------------------------------------------------------------------------------


async def test_a_paused_plan_begins_nothing_until_it_is_resumed(house: House, fake: Fake) -> None:
    plan = await made(house)
    await house.plans.pause(plan.id)
    other = await made(house, texts=["Meanwhile."])
    async with at_work(house):
        await until_it_is(house, other, PlanState.DONE)
        assert fake.charges()["calls"] == 1
        await house.plans.resume(plan.id)
        await until_it_is(house, plan, PlanState.DONE)
    assert fake.charges()["charges"] == 7


async def test_a_cancelled_plan_stays_cancelled(house: House, fake: Fake) -> None:
    plan = await made(house)
    assert (await house.plans.cancel(plan.id)).state is PlanState.CANCELLED
    assert (await house.plans.cancel(plan.id)).state is PlanState.CANCELLED
    for turn in (house.plans.pause, house.plans.resume):
        with pytest.raises(PlanIsOver):
            await turn(plan.id)
    with pytest.raises(NoSuchPlan):
        await house.plans.cancel("unheard-of")
    other = await made(house, texts=["Meanwhile."])
    async with at_work(house):
        await until_it_is(house, other, PlanState.DONE)
    assert fake.charges()["calls"] == 1


# --- standing -------------------------------------------------------------------------------


async def asked_for(house: House, text: str, collection: str, owner: str = "admin") -> None:
    """A text as somebody had it spoken, in that collection."""
    asked = Asked("fake", "tts-1", "nova", text, None, 1, {}, "mp3")
    await house.generation.segment(asked, owner)
    key = f"speech-of-{segment_key(asked)}"
    spoken = Speech(key, "mp3", (segment_key(asked),), None, None, 0)
    await house.keep.catalog.write(speeches.record, spoken)
    await house.keep.catalog.write(speeches.note_track, key, owner, collection, f"track-{key}")


async def test_a_standing_plan_takes_up_new_texts_of_its_collection_and_never_ends(
    house: House, fake: Fake
) -> None:
    await asked_for(house, "It was there before.", "book")
    plan = await made(house, texts=None, voices=["echo"], collection="book", standing=True)
    assert plan.progress.segments == 0

    def is_done(number: int) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            return (await house.plans.find(plan.id)).progress.done == number

        return look

    async with at_work(house):
        await until(is_done(1))
        await asked_for(house, "This came later.", "book")
        await asked_for(house, "This is of another book.", "other")
        await asked_for(house, "This is another reader's.", "book", owner="anna")
        await until(is_done(2))
        await asked_for(house, "And this last.", "book")
        await until(is_done(3))
    found = await house.plans.find(plan.id)
    assert (found.state, found.progress.segments) == (PlanState.RUNNING, 3)
    in_echo = [
        call["body"]["input"] for call in fake.charges()["asked"] if call["body"]["voice"] == "echo"
    ]
    assert in_echo == ["It was there before.", "This came later.", "And this last."]


def test_a_standing_plan_without_a_collection_is_refused() -> None:
    with pytest.raises(BadSpeech, match="collection"):
        plan_request({"voices": ["nova"], "standing": True})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": "a", "voices": []}, "voices"),
        ({"text": "a", "voices": ["nova"], "voice": "nova"}, "not both"),
        ({"text": "a", "texts": ["b"], "voice": "nova"}, "not both"),
        ({"voice": "nova"}, "has a text"),
        ({"text": "a", "voice": "nova", "budget": "many"}, "budget"),
        ({"text": "a", "voice": "nova", "budget": -1}, "budget"),
        ({"text": "a", "voice": "nova", "budget": float("nan")}, "budget"),
        ({"text": "a", "voice": "nova", "rate": 0}, "rate"),
        ({"text": "a", "voice": "nova", "rate": True}, "rate"),
        ({"text": "a", "voice": "nova", "order": "loud"}, "order"),
        ({"text": "a", "voice": "nova", "standing": 1}, "standing"),
        ({"text": "a", "voice": "nova", "colour": "red"}, "no field"),
        ({"texts": ["a", "..."], "voice": "nova"}, "text 2"),
    ],
)
def test_each_field_is_what_it_should_be(fields: dict[str, Any], says: str) -> None:
    with pytest.raises((BadSpeech, BadText), match=says):
        plan_request(fields)


# --- a server that is killed ----------------------------------------------------------------


def post(server: Server, path: str, body: dict[str, Any]) -> Any:
    answer = server.ask("POST", path, json.dumps(body).encode())
    assert answer.status in (200, 201), answer.body
    return answer.json


def test_a_plan_survives_kill_9_of_its_server_and_ends_with_one_charge_for_each_segment(
    fake: Fake, speech_settings: dict[str, Any], tmp_path: Path
) -> None:
    """Killed between two calls, of which it makes one a second."""
    with serving(tmp_path / "data", SPEECH=json.dumps(speech_settings)) as server:
        path = "/api/speech/plans"
        plan = post(server, path, {"texts": TEXTS, "voice": "nova", "model": "tts-1", "rate": 60})
        path += f"/{plan['id']}"
        for done in (1, 3):
            eventually(lambda most=done: server.ask("GET", path).json["segments_done"] >= most)
            server.kill()
            server.start()
        eventually(lambda: server.ask("GET", path).json["state"] == "done")
        told = server.ask("GET", path).json
    assert (told["segments_done"], told["spent"]) == (6, 6 * COST)
    assert fake.charges()["texts"] == dict.fromkeys(TEXTS, 1)


def test_killed_in_mid_call_it_pays_for_that_segment_again_at_most_and_says_so(
    fake: Fake, speech_settings: dict[str, Any], tmp_path: Path
) -> None:
    fake.behave(delay_seconds=0.5)
    with serving(tmp_path / "data", SPEECH=json.dumps(speech_settings)) as server:
        path = "/api/speech/plans"
        plan = post(server, path, {"texts": TEXTS, "voice": "nova", "model": "tts-1"})
        path += f"/{plan['id']}"
        eventually(lambda: fake.charges()["charges"] == 2)
        server.kill()
        server.start()
        eventually(lambda: server.ask("GET", path).json["state"] == "done")
        told = server.ask("GET", path).json
    charges = fake.charges()["charges"]
    assert set(fake.charges()["texts"]) == set(TEXTS)
    assert len(TEXTS) <= charges <= len(TEXTS) + 1
    assert told["spent"] == charges * COST
