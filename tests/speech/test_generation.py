"""One flight for a segment: who hears what and when, who pays, and what comes of every fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select, update

from reading.stage import until
from soundkeep import build, errors
from soundkeep.build.house import House
from soundkeep.build.speech import REFUSED_TAKES
from soundkeep.catalog import copies, database, hits, money, refusals, speaking
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog.money import Intent, IntentState, Order
from soundkeep.catalog.schema import now, segments
from soundkeep.catalog.speaking import Claimed, Held, Noted, Requested
from soundkeep.intake.spool import Spool
from soundkeep.model import CopyState, Money, Segment
from soundkeep.settings import Settings
from soundkeep.settings.house import WorkerSettings
from soundkeep.settings.speech import SpeechSettings
from soundkeep.speech import generation as generation_module
from soundkeep.speech.calls import Take, write_segment
from soundkeep.speech.generation import Generation
from soundkeep.speech.keys import segment_key
from soundkeep.speech.leading import Verdict
from soundkeep.speech.live import HELD_BACK_BYTES
from soundkeep.worker import Worker
from sounds import wav
from speech.scripted import ScriptedEngine, accept, asked

SOUND = wav(500_000, seed=11)
KEY = segment_key(asked())
COST = len(asked().text)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data=tmp_path,
        speech=SpeechSettings(lease_seconds=5),
        worker=WorkerSettings(lease_seconds=1, poll_seconds=0.2),
    )


def speak_with(house: House, engine: ScriptedEngine) -> None:
    """What it says is noise of a known size, which our own judge would refuse."""
    house.generation.engines = {"scripted": engine}
    house.generation.leader.judge = accept


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    async with build.opened(settings) as house:
        speak_with(house, ScriptedEngine(SOUND))
        yield house


@pytest.fixture
def generation(house: House) -> Generation:
    return house.generation


@pytest.fixture
def engine(generation: Generation) -> ScriptedEngine:
    engine = generation.engines["scripted"]
    assert isinstance(engine, ScriptedEngine)
    return engine


async def hear(generation: Generation, text: str = "Hello.", payer: str = "anna") -> bytes:
    said = await generation.ask(asked(text), payer)
    return b"".join([piece async for piece in said.pieces()])


async def heard_or_code(generation: Generation, payer: str = "anna") -> bytes | str:
    try:
        return await hear(generation, payer=payer)
    except errors.SoundkeepError as error:
        return error.code


async def calls(house: House, key: str = KEY) -> list[Intent]:
    return await house.keep.catalog.read(money.of_segment, key)


async def states(house: House) -> list[IntentState]:
    return [call.state for call in await calls(house)]


async def until_so(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await is_so():
            await asyncio.sleep(0.01)


async def the_rest_is_over(house: House) -> None:
    due = update(segments).values(due_at=now() - 1)
    await house.keep.catalog.write(lambda tx: tx.run(due))


# --- what is said is kept -------------------------------------------------------------------


async def test_what_is_heard_live_is_what_is_kept_and_is_there_the_next_time(
    house: House, generation: Generation, engine: ScriptedEngine
) -> None:
    assert await hear(generation) == SOUND
    again = await generation.ask(asked(), "anna")
    assert again.hit
    segment = await again.segment()
    assert b"".join([piece async for piece in again.pieces()]) == SOUND
    assert engine.calls == 1
    assert (segment.characters, segment.cost) == (COST, Money(COST * 10**9, "USD"))
    assert segment.timing is not None
    assert segment.timing["timing_source"] == "provider"
    assert segment.timing["words"] == [
        {"start_seconds": 0.0, "end_seconds": 0.5, "start": 0, "end": 6}
    ]
    [call] = await calls(house)
    assert (call.state, call.request_id, call.owner) == (IntentState.DONE, "request-1", "anna")


async def test_a_take_gets_into_every_store_and_outlives_its_inbox(
    house: House, generation: Generation
) -> None:
    segment = await generation.segment(asked(), "anna")

    async def stand_as(expected: CopyState) -> bool:
        found = await house.keep.catalog.read(copies.of_blob, segment.digest)
        placed = {copy.store: copy.state for copy in found if not copies.is_inbox(copy.store)}
        return placed == dict.fromkeys(("disk", "backup"), expected)

    assert await stand_as(CopyState.WANTED)
    worker = Worker(house)
    worker.start()
    await until_so(lambda: stand_as(CopyState.PRESENT))
    await worker.stop(5)
    for file in (house.keep.settings.inbox_directory / "uploads").iterdir():
        file.unlink()
    assert b"".join([piece async for piece in generation.bytes_of(segment)]) == SOUND


async def test_a_follower_hears_all_of_it_but_the_end_until_it_is_judged(
    generation: Generation, engine: ScriptedEngine
) -> None:
    judged = asyncio.Event()

    async def judge(take: Take) -> Verdict:
        assert take.path.read_bytes() == SOUND
        await judged.wait()
        return Verdict(accepted=True)

    generation.leader.judge = judge
    first = asyncio.create_task(hear(generation))
    await until(lambda: engine.calls == 1)
    late = await generation.ask(asked(), "ben")
    heard = b""
    async with asyncio.timeout(20), aclosing(late.pieces()) as pieces:
        async for piece in pieces:
            heard += piece
            if not judged.is_set() and len(heard) >= len(SOUND) - HELD_BACK_BYTES:
                assert len(heard) == len(SOUND) - HELD_BACK_BYTES
                judged.set()
    assert heard == await first == SOUND
    assert not late.hit
    assert engine.calls == 1


async def test_a_caller_who_hangs_up_does_not_end_the_call(
    house: House, generation: Generation, engine: ScriptedEngine
) -> None:
    engine.may_end.clear()
    streams = [asyncio.create_task(hear(generation)) for _ in range(10)]
    waits = [asyncio.create_task(generation.segment(asked(), "ben")) for _ in range(10)]
    callers = [*streams, *waits]
    await until(lambda: engine.calls == 1)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    again = asyncio.create_task(hear(generation))
    engine.may_end.set()
    assert await again == SOUND
    assert (engine.calls, engine.broken_off) == (1, 0)
    assert await states(house) == [IntentState.DONE]


async def test_nothing_was_spoken_for_a_take_whose_bytes_are_there_under_another_text(
    house: House, generation: Generation, engine: ScriptedEngine
) -> None:
    one, two = await hear(generation, "One."), await hear(generation, "Two.")
    assert one == two == SOUND
    assert engine.calls == 2
    segment = await generation.segment(asked("Two."), "anna")
    stored = await house.keep.catalog.read(copies.of_blob, segment.digest)
    assert len([copy for copy in stored if not copies.is_inbox(copy.store)]) == 2


# --- money ----------------------------------------------------------------------------------


async def test_over_budget_is_told_to_the_payer_alone(settings: Settings) -> None:
    poor = SpeechSettings(budgets={"anna": Decimal(COST - 1), "ben": Decimal(COST)})
    async with build.opened(settings.model_copy(update={"speech": poor})) as house:
        engine = ScriptedEngine(SOUND)
        speak_with(house, engine)
        anna, ben = [await house.generation.ask(asked(), payer) for payer in ("anna", "ben")]
        refused, segment = await asyncio.gather(
            anna.segment(), ben.segment(), return_exceptions=True
        )
        assert isinstance(refused, errors.OverBudget)
        assert isinstance(segment, Segment)
        assert [call.owner for call in await calls(house)] == ["ben"]
        assert await heard_or_code(house.generation, "anna") == SOUND, "a hit costs nothing"
        assert engine.calls == 1


async def test_who_hears_and_waits_at_once_gets_over_anothers_empty_purse(
    settings: Settings,
) -> None:
    poor = SpeechSettings(budgets={"anna": Decimal(COST - 1), "ben": Decimal(COST)})
    async with build.opened(settings.model_copy(update={"speech": poor})) as house:
        speak_with(house, ScriptedEngine(SOUND))
        anna, ben = [await house.generation.ask(asked(), payer) for payer in ("anna", "ben")]

        async def heard() -> bytes:
            return b"".join([piece async for piece in ben.pieces()])

        refused, segment, sound = await asyncio.gather(
            anna.segment(), ben.segment(), heard(), return_exceptions=True
        )
        assert isinstance(refused, errors.OverBudget)
        assert isinstance(segment, Segment)
        assert sound == SOUND
        assert ben.paid


async def test_the_figures_say_how_the_cache_pays(house: House, generation: Generation) -> None:
    await asyncio.gather(*(hear(generation) for _ in range(4)))
    await hear(generation)
    await hear(generation, "Another.", payer="ben")
    await generation.counts.flush(house.keep.catalog)
    figures = await house.keep.catalog.read(hits.figures)
    assert (figures.hits, figures.misses, figures.hit_rate) == (4, 2, 4 / 6)
    assert figures.saved == (Money(4 * COST * 10**9, "USD"),)
    assert figures.spent == (Money((COST + len("Another.")) * 10**9, "USD"),)
    [voice] = figures.voices
    assert voice.first_byte_seconds is not None
    assert voice.first_byte_seconds > 0
    [of_ben] = (await house.keep.catalog.read(hits.figures, "ben")).voices
    assert (of_ben.hits, of_ben.misses) == (0, 1)


async def test_counts_that_cannot_be_written_are_written_later(
    house: House, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hear(generation)
    await hear(generation)

    async def out(*_: object) -> None:
        raise errors.CatalogUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(house.keep.catalog, "write", out)
        await generation.counts.flush(house.keep.catalog)
    await generation.counts.flush(house.keep.catalog)
    figures = await house.keep.catalog.read(hits.figures)
    assert (figures.hits, figures.misses) == (1, 1)


# --- bad takes ------------------------------------------------------------------------------


async def refuse(take: Take) -> Verdict:
    return Verdict(accepted=False, reason="it is silent")


async def test_a_refused_take_breaks_every_stream_off_and_is_put_aside(
    house: House, generation: Generation, settings: Settings
) -> None:
    generation.leader.judge = refuse
    callers = (heard_or_code(generation) for _ in range(10))
    assert set(await asyncio.gather(*callers)) == {"take_refused"}
    assert await house.keep.catalog.read(segment_rows.find, KEY) is None
    [row] = await house.keep.catalog.read(refusals.of_segment, KEY)
    assert row.reason == "it is silent"
    aside = settings.data_directory / REFUSED_TAKES / row.file
    assert aside.read_bytes() == SOUND
    assert not list((settings.inbox_directory / "uploads").iterdir())
    assert [(call.state, call.cost.amount) for call in await calls(house)] == [
        (IntentState.DONE, COST)
    ], "it was paid for all the same"


async def test_a_refused_take_that_cannot_be_put_aside_is_an_honest_row(
    house: House, generation: Generation, engine: ScriptedEngine, settings: Settings
) -> None:
    async def refuse(take: Take) -> Verdict:
        return Verdict(accepted=False, reason="it is silent")

    generation.leader.judge = refuse
    (settings.data_directory / REFUSED_TAKES).write_bytes(b"in the way")
    assert [await heard_or_code(generation) for _ in range(3)] == ["write_failed"] * 3
    assert engine.calls == 1
    [call] = await calls(house)
    assert (call.state, call.cost.amount) == (IntentState.DONE, COST)


async def test_after_two_refused_takes_nobody_is_asked_for_a_day(
    house: House, generation: Generation, engine: ScriptedEngine
) -> None:
    generation.leader.judge = refuse
    answers = [await heard_or_code(generation) for _ in range(5)]
    assert answers == ["take_refused"] * 5
    assert engine.calls == 2
    with pytest.raises(errors.TakeRefused, match="silent") as told:
        await hear(generation)
    assert told.value.retry_after is not None
    assert told.value.retry_after > 86_000


@pytest.mark.parametrize("audio", [b"<html>a proxy speaks</html>" * 40, SOUND[:20], b""])
async def test_what_is_no_sound_is_never_kept(
    house: House, generation: Generation, engine: ScriptedEngine, audio: bytes
) -> None:
    engine.audio = audio
    expected = "take_refused" if audio else "engine_answered_badly"
    assert await heard_or_code(generation) == expected
    assert await house.keep.catalog.read(segment_rows.find, KEY) is None
    assert await states(house) == [IntentState.DONE]


# --- errors of engines ----------------------------------------------------------------------

PASSING = [
    (errors.EngineUnavailable("gone", charged=False), IntentState.FAILED, 0),
    (errors.EngineUnavailable("reset", charged=None), IntentState.UNKNOWN, COST),
    (errors.EngineAnsweredBadly("cut off", charged=True), IntentState.FAILED, COST),
]
LASTING = [
    errors.EngineUnauthorised("wrong key", charged=False),
    errors.EngineOutOfCredit("nothing left", charged=False),
    errors.UnknownVoice("no such voice", charged=False),
]


@pytest.mark.parametrize(("error", "state", "cost"), PASSING)
async def test_a_fault_that_may_pass_is_told_to_all_and_tried_after_a_rest(
    house: House,
    generation: Generation,
    engine: ScriptedEngine,
    error: errors.EngineError,
    state: IntentState,
    cost: int,
) -> None:
    engine.error, engine.error_at = error, 3
    assert set(await asyncio.gather(*(heard_or_code(generation) for _ in range(9)))) == {error.code}
    assert await heard_or_code(generation) == error.code
    assert engine.calls == 1, "it is told again without a call"
    [call] = await calls(house)
    assert (call.state, call.cost.amount) == (state, cost)
    assert await house.keep.catalog.read(segment_rows.find, KEY) is None
    engine.error = None
    await the_rest_is_over(house)
    assert await hear(generation) == SOUND


async def test_while_no_take_can_be_judged_not_each_caller_pays_for_one(
    house: House, generation: Generation, engine: ScriptedEngine
) -> None:
    async def out(take: Take) -> Verdict:
        raise errors.JailFailed("the decoder does not start")

    generation.leader.judge = out
    assert [await heard_or_code(generation) for _ in range(3)] == ["decoder_unavailable"] * 3
    assert engine.calls == 1
    generation.leader.judge = accept
    await the_rest_is_over(house)
    assert await hear(generation) == SOUND


@pytest.mark.parametrize("error", LASTING)
async def test_a_fault_that_stays_costs_nothing_and_is_asked_anew_each_time(
    house: House, generation: Generation, engine: ScriptedEngine, error: errors.EngineError
) -> None:
    engine.error = error
    assert [await heard_or_code(generation) for _ in range(3)] == [error.code] * 3
    assert engine.calls == 3
    assert [call.cost.amount for call in await calls(house)] == [0, 0, 0]
    engine.error = None
    assert await hear(generation) == SOUND


async def test_how_long_the_provider_wants_us_to_wait_is_told_again(
    generation: Generation, engine: ScriptedEngine
) -> None:
    engine.error = errors.EngineThrottled("too fast", retry_after=50.0)
    for _ in range(2):
        with pytest.raises(errors.EngineThrottled) as told:
            await hear(generation)
        assert told.value.retry_after is not None
        assert 45 < told.value.retry_after <= 61
    assert engine.calls == 1


async def test_a_fault_of_ours_leaves_the_row_free_and_the_money_unknown(
    house: House, generation: Generation, engine: ScriptedEngine
) -> None:
    engine.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await generation.segment(asked(), "anna")
    assert await states(house) == [IntentState.UNKNOWN]
    engine.error = None
    assert await hear(generation) == SOUND


async def test_an_engine_that_is_not_set_is_an_error_of_the_caller(generation: Generation) -> None:
    generation.engines = {}
    with pytest.raises(errors.BadSpeech, match="scripted"):
        await hear(generation)


# --- leases, and the end of a process -------------------------------------------------------


async def somebody_else_claims(house: House) -> Claimed:
    await the_rest_is_over(house)
    wish = Requested(KEY, "{}", "scripted", "m", "v", None, "Hello.")
    order = Order(KEY, "scripted", "m", "v", "ben", COST, Money(1, "USD"), None)
    claimed = await house.keep.catalog.write(
        speaking.want, wish, order, holder="elsewhere/1/1", lease_seconds=60
    )
    assert isinstance(claimed, Claimed)
    return claimed


async def test_who_lost_the_lease_keeps_nothing_and_waits_for_who_has_it(
    house: House, generation: Generation, engine: ScriptedEngine
) -> None:
    engine.may_end.clear()
    callers = [asyncio.create_task(generation.segment(asked(), "anna")) for _ in range(5)]
    await until(lambda: engine.calls == 1)
    stream = asyncio.create_task(heard_or_code(generation))
    theirs = await somebody_else_claims(house)
    assert await states(house) == [IntentState.UNKNOWN, IntentState.OPEN]
    engine.may_end.set()

    async def ours_is_settled() -> bool:
        return await states(house) == [IntentState.DONE, IntentState.OPEN]

    await until_so(ours_is_settled)
    assert await stream == "engine_unavailable", "it is not what will be kept"
    assert not any(caller.done() for caller in callers)
    fault = Noted("engine_unauthorised", "theirs", 0.0)
    await house.keep.catalog.write(speaking.note_error, theirs, fault, retryable=False)
    ended = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(each) for each in ended} == {errors.EngineUnauthorised}
    assert not list((house.keep.settings.inbox_directory / "uploads").iterdir())


async def lease_end(house: House) -> float:
    row = select(segments.c.due_at).where(segments.c.key == KEY)
    return float(await house.keep.catalog.read(lambda tx: tx.run(row).scalar_one()))


async def test_a_long_call_keeps_its_lease(settings: Settings) -> None:
    brief = settings.model_copy(update={"speech": SpeechSettings(lease_seconds=1)})
    async with build.opened(brief) as house:
        engine = ScriptedEngine(SOUND)
        speak_with(house, engine)
        engine.may_end.clear()
        caller = asyncio.create_task(house.generation.segment(asked(), "anna"))
        await until(lambda: engine.calls == 1)
        first = await lease_end(house)
        async with asyncio.timeout(20):
            while await lease_end(house) < first + 2:  # two leases later
                assert isinstance(await house.keep.catalog.read(speaking.look, KEY), Held)
                await asyncio.sleep(0.05)
        engine.may_end.set()
        assert isinstance(await caller, Segment)
        assert await states(house) == [IntentState.DONE]


async def test_a_call_that_is_broken_off_at_the_end_is_unknown_and_the_row_is_free(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_module, "CLOSE_SECONDS", 0.1)
    async with build.opened(settings) as house:
        engine = ScriptedEngine(SOUND)
        speak_with(house, engine)
        engine.may_end.clear()
        caller = asyncio.create_task(heard_or_code(house.generation))
        await until(lambda: engine.calls == 1)
    assert engine.broken_off == 1
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    async with build.opened(settings) as house:
        speak_with(house, ScriptedEngine(SOUND))
        assert await hear(house.generation) == SOUND
        assert await states(house) == [IntentState.UNKNOWN, IntentState.DONE]


async def test_what_is_being_spoken_is_kept_before_a_process_ends(settings: Settings) -> None:
    async with build.opened(settings) as house:
        engine = ScriptedEngine(SOUND)
        speak_with(house, engine)
        engine.may_end.clear()
        caller = asyncio.create_task(house.generation.segment(asked(), "anna"))
        await until(lambda: engine.calls == 1)
        asyncio.get_running_loop().call_later(0.2, engine.may_end.set)
    assert isinstance(await caller, Segment)


async def test_open_calls_whose_lease_ran_out_are_unknown_though_nobody_asks(
    house: House,
) -> None:
    await somebody_else_claims(house)
    assert await house.keep.catalog.write(speaking.forsake_expired) == 0
    await the_rest_is_over(house)
    assert await house.keep.catalog.write(speaking.forsake_expired) == 1
    assert await states(house) == [IntentState.UNKNOWN]


# --- a machine in trouble -------------------------------------------------------------------


@pytest.mark.parametrize("error", [errors.CatalogUnavailable, errors.DiskFull])
async def test_a_catalog_that_is_out_when_the_call_ends_loses_no_take(
    house: House,
    generation: Generation,
    engine: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    engine.may_end.clear()
    caller = asyncio.create_task(hear(generation))
    await until(lambda: engine.calls == 1)
    real, failures = house.keep.catalog.write, []

    async def out(*given: object, **more: object) -> object:
        if len(failures) < 2:
            failures.append(given)
            raise error
        return await real(*given, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(house.keep.catalog, "write", out)
        engine.may_end.set()
        assert await caller == SOUND
    assert len(failures) == 2
    assert engine.calls == 1
    assert await states(house) == [IntentState.DONE]


async def test_a_commit_whose_answer_was_lost_is_not_taken_for_a_lost_lease(
    house: House, generation: Generation, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.may_end.clear()
    caller = asyncio.create_task(hear(generation))
    await until(lambda: engine.calls == 1)
    real, lost = house.keep.catalog.write, []

    async def answers_late(action: object, *given: object, **more: object) -> object:
        result = await real(action, *given, **more)  # type: ignore[arg-type]
        if action is write_segment and not lost:
            lost.append(action)
            raise errors.CatalogUnavailable("the connection broke under the commit")
        return result

    with monkeypatch.context() as patched:
        patched.setattr(house.keep.catalog, "write", answers_late)
        engine.may_end.set()
        assert await caller == SOUND
    assert lost
    assert engine.calls == 1
    assert await hear(generation) == SOUND


async def test_a_full_disk_is_an_honest_row_and_no_segment(
    house: House, generation: Generation, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise errors.DiskFull

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "publish", full)
        assert await heard_or_code(generation) == "disk_full"
    assert [(call.state, call.cost.amount) for call in await calls(house)] == [
        (IntentState.DONE, COST)
    ]
    await the_rest_is_over(house)
    assert await hear(generation) == SOUND
