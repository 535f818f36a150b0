"""A substitute speaks only where a request allows it, and under a key of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from soundkeep import build
from soundkeep.build.house import House
from soundkeep.errors import (
    BadSpeech,
    EngineAnsweredBadly,
    EngineOutOfCredit,
    EngineUnavailable,
    OverBudget,
    SoundkeepError,
    TakeRefused,
    UnknownVoice,
)
from soundkeep.settings import Settings
from soundkeep.settings.speech import SpeechSettings
from soundkeep.speech.plan_request import plan_request
from soundkeep.speech.request import speech_request
from soundkeep.speech.speeches import Answer
from sounds import wav
from speech.scripted import ScriptedEngine, accept

TEXT = "The ferry does not run today."
BOOK = f"{TEXT}\n\nIt will run tomorrow."
SCRIPTED = {"engine": "scripted", "model": "m", "voice": "v", "timings": False}
OFFLINE = {"engine": "offline", "voice": "en-us"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    settings = SpeechSettings(budgets={"poor": Decimal(1)})
    async with build.opened(Settings(data=tmp_path, speech=settings)) as house:
        house.generation.engines["scripted"] = ScriptedEngine(wav(60_000, seed=3))
        yield house


def scripted(house: House) -> ScriptedEngine:
    engine = house.generation.engines["scripted"]
    assert isinstance(engine, ScriptedEngine)
    return engine


async def say(house: House, text: str = TEXT, **fields: Any) -> Answer:
    return await house.speeches.say(speech_request({"text": text, **fields}))


async def heard(answer: Answer) -> bytes:
    async with aclosing(answer.pieces()) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("text", [TEXT, BOOK], ids=["one take", "several"])
@pytest.mark.parametrize("format", ["wav", "mp3"])
@pytest.mark.parametrize(
    "error",
    [
        EngineUnavailable("it is out"),
        EngineOutOfCredit("it has nothing left"),
        EngineAnsweredBadly("that is no sound"),
    ],
    ids=lambda error: error.code,
)
async def test_whoever_can_speaks_all_of_it_under_the_key_that_is_its_own(
    house: House, error: SoundkeepError, format: str, text: str
) -> None:
    scripted(house).error = error
    asked = await house.speeches.chooser.choose(
        speech_request({"text": text, "format": format, **SCRIPTED})
    )
    answer = await say(house, text, format=format, **SCRIPTED, substitutes=["offline/en-us"])
    assert answer.substitute
    sound = await heard(answer)
    own = await say(house, text, format=format, **OFFLINE)
    assert (own.hit, own.substitute) == (True, False)
    assert await heard(own) == sound
    assert answer.chosen.key == own.chosen.key != asked.key
    assert await house.speeches.look(asked) is None


async def test_nobody_speaks_in_the_place_of_another_without_being_named(house: House) -> None:
    scripted(house).error = EngineUnavailable("it is out")
    with pytest.raises(EngineUnavailable, match="it is out"):
        await (await say(house, **SCRIPTED)).kept()


async def test_who_was_asked_speaks_while_it_can(house: House) -> None:
    house.generation.leader.judge = accept
    answer = await say(house, format="wav", **SCRIPTED, substitutes=["offline"])
    assert (answer.chosen.engine.name, answer.substitute) == ("scripted", False)
    assert await heard(answer) == wav(60_000, seed=3)
    assert scripted(house).calls == 1
    again = await say(house, format="wav", **SCRIPTED, substitutes=["offline"])
    assert again.hit


async def test_a_bad_take_and_an_empty_purse_are_stood_in_for_too(house: House) -> None:
    refused = await say(house, format="wav", **SCRIPTED, substitutes=["offline"])
    assert refused.chosen.engine.name == "offline"
    with pytest.raises(TakeRefused):
        await (await say(house, format="wav", **SCRIPTED)).kept()
    poor = {**SCRIPTED, "owner": "poor", "format": "wav"}
    with pytest.raises(OverBudget):
        await (await say(house, "Too dear.", **poor)).kept()
    cheap = await say(house, "Too dear.", **poor, substitutes=["offline"])
    assert cheap.chosen.engine.name == "offline"


async def test_the_next_substitute_speaks_if_one_cannot(house: House) -> None:
    scripted(house).error = EngineUnavailable("it is out")
    others = ["nobody", "offline/no-such-voice", "offline/en-gb-x-rp"]
    answer = await say(house, **SCRIPTED, substitutes=others)
    assert (answer.chosen.engine.name, answer.chosen.voice) == ("offline", "en-gb-x-rp")


async def test_if_nobody_can_the_engine_that_was_asked_says_why(house: House) -> None:
    scripted(house).error = EngineUnavailable("it is out")
    with pytest.raises(EngineUnavailable, match="it is out"):
        await say(house, **SCRIPTED, substitutes=["offline/no-such-voice"])


async def test_a_request_that_is_wrong_is_refused_and_not_spoken_by_another(house: House) -> None:
    with pytest.raises(UnknownVoice):
        await say(house, engine="offline", voice="no-such-voice", substitutes=["offline/en-us"])
    with pytest.raises(BadSpeech):
        await say(house, engine="nobody", substitutes=["offline/en-us"])


@pytest.mark.parametrize("bad", ["offline", [1], [""], ["/en-us"], ["offline/"], ["offline"] * 9])
def test_substitutes_are_a_short_list_of_engines_and_voices(bad: object) -> None:
    with pytest.raises(BadSpeech, match="substitutes"):
        speech_request({"text": TEXT, "substitutes": bad})


def test_a_plan_waits_for_its_engine_and_has_no_substitutes() -> None:
    with pytest.raises(BadSpeech, match="substitutes"):
        plan_request({"texts": [TEXT], "voices": ["en-us"], "substitutes": ["offline"]})
