"""What providers do wrong, for both protocols: one clear error each, and never a second charge."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from servers.fake_provider import API_KEY, BAD_TAKES, Fake, running
from soundkeep import errors
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.elevenlabs import ElevenLabsEngine
from soundkeep.speech.engines.http import Patience
from soundkeep.speech.engines.interface import Engine
from soundkeep.speech.engines.openai import OpenAIEngine
from soundkeep.testing.engine_contract import hear
from speech.engines.asking import asked, fault

PATIENCE = Patience(
    connect_seconds=2, first_byte_seconds=20, between_bytes_seconds=1, tries=3, wait_seconds=5
)
FORMS = ("elevenlabs", "elevenlabs plain", "openai", "kokoro")


@dataclass(frozen=True)
class Bench:
    """An engine, what it is asked, and the provider behind it."""

    engine: Engine
    asked: Asked
    fake: Fake

    async def fault(self, name: str, **how: object) -> errors.EngineError:
        self.fake.behave(fault=name, **how)
        error = await fault(self.engine, self.asked)
        assert API_KEY not in str(error)
        assert self.engine.name in str(error)
        return error

    @property
    def calls(self) -> int:
        return int(self.fake.charges()["calls"])

    @property
    def charges(self) -> int:
        return int(self.fake.charges()["charges"])


@pytest.fixture(params=FORMS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with aclosing(benches(request, request.param)) as made:
        async for one in made:
            yield one


@pytest.fixture
async def eleven(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with aclosing(benches(request, "elevenlabs")) as made:
        async for one in made:
            yield one


@pytest.fixture
async def openai(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with aclosing(benches(request, "openai")) as made:
        async for one in made:
            yield one


async def benches(request: pytest.FixtureRequest, form: str) -> AsyncIterator[Bench]:
    protocol = form.partition(" ")[0]
    fake: Fake = request.getfixturevalue(f"fake_{protocol}")
    engine = made(form, fake)
    model, voice = MODEL_AND_VOICE[protocol]
    yield Bench(engine, asked(engine, model, voice), fake)
    await engine.close()


MODEL_AND_VOICE = {
    "elevenlabs": ("eleven_multilingual_v2", "21m00Tcm4TlvDq8ikWAM"),
    "openai": ("tts-1", "alloy"),
    "kokoro": ("tts-1", "nova"),
}


def made(form: str, fake: Fake) -> Engine:
    if form.startswith("elevenlabs"):
        times = form == "elevenlabs"
        return ElevenLabsEngine(
            "eleven", API_KEY, base_url=fake.url, timestamps=times, patience=PATIENCE, concurrency=4
        )
    url = f"{fake.url}/v1"
    voices = ("alloy", "nova")
    return OpenAIEngine("openai", API_KEY, base_url=url, voices=voices, patience=PATIENCE)


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("invalid_api_key", errors.EngineUnauthorised),
        ("payment_required", errors.EngineOutOfCredit),
        ("unprocessable", errors.EngineRefused),
        ("model_not_found", errors.UnknownModel),
    ],
)
async def test_a_refusal_costs_nothing_and_is_not_repeated(
    bench: Bench, fault: str, kind: type[errors.EngineError]
) -> None:
    error = await bench.fault(fault)
    assert type(error) is kind
    assert error.charged is False
    assert (bench.calls, bench.charges) == (1, 0)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("quota_exceeded", errors.EngineOutOfCredit),
        ("quota_exceeded_400", errors.EngineOutOfCredit),
        ("voice_not_found", errors.UnknownVoice),
        ("max_character_limit_exceeded", errors.TextTooLong),
    ],
)
async def test_elevenlabs_is_understood_by_its_code_and_not_by_the_status(
    eleven: Bench, fault: str, kind: type[errors.EngineError]
) -> None:
    assert type(await eleven.fault(fault)) is kind
    assert eleven.calls == 1


async def test_a_used_up_account_is_not_taken_for_haste(openai: Bench) -> None:
    error = await openai.fault("insufficient_quota")
    assert type(error) is errors.EngineOutOfCredit
    assert openai.calls == 1


async def test_a_list_of_faults_says_which_field_is_meant(eleven: Bench) -> None:
    error = await eleven.fault("unprocessable")
    assert "HTTP 422 less_than_equal, about body.voice_settings.stability" in str(error)


async def test_a_parameter_that_is_refused_is_named(openai: Bench) -> None:
    assert "about speed" in str(await openai.fault("bad_speed"))


# --- what passes ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["rate_limit_exceeded", "unavailable"])
async def test_what_surely_cost_nothing_is_tried_again(bench: Bench, fault: str) -> None:
    bench.fake.behave(fault=fault, times=2)
    assert (await hear(bench.engine, bench.asked)).audio
    assert (bench.calls, bench.charges) == (3, 1)


@pytest.mark.parametrize("kind", ["too_many_concurrent_requests", "system_busy"])
async def test_every_way_to_ask_for_patience_is_understood(eleven: Bench, kind: str) -> None:
    error = await eleven.fault(kind)
    assert isinstance(error, errors.EngineThrottled)
    assert (error.kind, error.charged) == (kind, False)
    assert (eleven.calls, eleven.charges) == (PATIENCE.tries, 0)


async def test_what_may_have_cost_something_is_not_tried_again(bench: Bench) -> None:
    error = await bench.fault("internal")
    assert type(error) is errors.EngineUnavailable
    assert error.charged is None
    assert bench.calls == 1


async def test_a_retry_comes_no_sooner_than_it_was_told(bench: Bench) -> None:
    bench.fake.behave(fault="rate_limit_exceeded", times=1, retry_after="1")
    began = time.monotonic()
    await hear(bench.engine, bench.asked)
    assert time.monotonic() - began >= 1
    assert bench.charges == 1


async def test_a_pause_beyond_patience_is_told_at_once_to_all_who_come(bench: Bench) -> None:
    for _ in range(2):
        error = await bench.fault("rate_limit_exceeded", retry_after="3600")
        assert isinstance(error, errors.EngineThrottled)
        assert error.retry_after is not None
        assert 3500 < error.retry_after <= 3600
    assert bench.calls == 1


@pytest.mark.parametrize("form", ["elevenlabs", "openai"])
async def test_nobody_at_home_is_unavailable_and_free(form: str) -> None:
    with running(f"servers.fake_{form}") as fake:
        engine = made(form, fake)
        what = asked(engine, *MODEL_AND_VOICE[form])
        await engine.check(what)
    error = await fault(engine, what)
    assert type(error) is errors.EngineUnavailable
    assert error.charged is False
    await engine.close()


# --- answers that are no sound --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("html", errors.EngineAnsweredBadly),
        ("empty", errors.EngineAnsweredBadly),
        ("wrong_type", errors.EngineAnsweredBadly),
        ("cut_off", errors.EngineAnsweredBadly),
        ("stall", errors.EngineUnavailable),
        ("reset", errors.EngineUnavailable),
        ("reset_later", errors.EngineAnsweredBadly),
    ],
)
async def test_a_bad_answer_is_an_error_and_never_a_second_charge(
    bench: Bench, name: str, kind: type[errors.EngineError]
) -> None:
    error = await bench.fault(name)
    assert type(error) is kind, error
    assert error.charged is not False
    assert bench.calls == 1


async def test_garbage_instead_of_lines_is_an_error(eleven: Bench) -> None:
    assert type(await eleven.fault("garbage")) is errors.EngineAnsweredBadly


async def test_what_the_headers_say_was_paid_is_known_to_be_paid(eleven: Bench) -> None:
    assert (await eleven.fault("cut_off")).charged is True


async def test_after_every_fault_the_engine_speaks_again(bench: Bench) -> None:
    for name in ("html", "cut_off", "reset", "internal", "unprocessable"):
        await bench.fault(name)
    bench.fake.reset()
    assert (await hear(bench.engine, bench.asked)).audio


@pytest.mark.parametrize("name", sorted(BAD_TAKES))
async def test_what_only_sounds_wrong_is_left_to_the_judge(eleven: Bench, name: str) -> None:
    good = await hear(eleven.engine, eleven.asked)
    eleven.fake.behave(fault=name)
    bad = await hear(eleven.engine, eleven.asked)
    assert bad.audio
    assert bad.audio != good.audio
    assert eleven.charges == 2


# --- lists ----------------------------------------------------------------------------------


async def test_lists_are_asked_for_once_by_any_number_of_callers(bench: Bench) -> None:
    await asyncio.gather(*(bench.engine.check(bench.asked) for _ in range(20)))
    lists = bench.fake.charges()["lists"]
    await asyncio.gather(*(bench.engine.check(bench.asked) for _ in range(20)))
    assert bench.fake.charges()["lists"] == lists <= 3


async def test_without_a_list_nothing_is_spoken(bench: Bench) -> None:
    bench.fake.behave(lists_fault=500)
    error = await fault(bench.engine, bench.asked)
    assert type(error) is errors.EngineUnavailable
    assert error.charged is False
    assert bench.calls == 0


async def test_no_log_line_holds_the_key(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await bench.fault("invalid_api_key")
        await bench.fault("reset")
    assert API_KEY not in caplog.text
