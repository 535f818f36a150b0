"""The offline voice: its processes may die, be slow or be missing, and its traps are known."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import aclosing
from io import BytesIO
from pathlib import Path

import msgspec
import psutil
import pytest

from soundkeep.audio.confined import LENGTH
from soundkeep.errors import EngineRefused, EngineUnavailable, UnknownVoice
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.espeak import EspeakEngine
from soundkeep.speech.engines.espeak_worker import Said
from soundkeep.speech.engines.interface import Engine
from soundkeep.testing.engine_contract import hear
from speech.engines.asking import asked

MODEL = "espeak-ng"
BOUND_SECONDS = 30


@pytest.fixture
async def engine() -> AsyncIterator[EspeakEngine]:
    engine = EspeakEngine("offline", workers=1)
    yield engine
    await engine.close()


def says(engine: Engine, text: str, voice: str = "en-us", **changes: object) -> Asked:
    return asked(engine, MODEL, voice, text, **changes)


def our_workers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [each for each in children if "espeak_worker" in " ".join(each.cmdline())]


# --- voices ---------------------------------------------------------------------------------


async def test_every_voice_that_is_listed_can_speak(engine: EspeakEngine) -> None:
    voices = await engine.voices()
    assert len(voices) > 130
    for voice in voices:
        heard = await hear(engine, says(engine, "a b 1", voice.id))
        assert any(heard.audio[44:])


async def test_the_voice_that_the_library_refuses_by_its_own_name_speaks(
    engine: EspeakEngine,
) -> None:
    assert {"en-gb", "en-gb-x-rp", "en-us", "de"} <= {voice.id for voice in await engine.voices()}
    british = await hear(engine, says(engine, "Half past, after the bath.", "en-gb"))
    american = await hear(engine, says(engine, "Half past, after the bath.", "en-us"))
    assert len(british.audio) != len(american.audio)


@pytest.mark.parametrize("voice", ["en-us+nonsense", "gmw/en-US", "English (America)", "EN-US"])
async def test_a_name_that_the_library_would_bend_is_unknown(
    engine: EspeakEngine, voice: str
) -> None:
    with pytest.raises(UnknownVoice):
        await hear(engine, says(engine, "Hello.", voice))


# --- sound and times ------------------------------------------------------------------------


async def test_a_wav_says_its_true_length(engine: EspeakEngine) -> None:
    heard = await hear(engine, says(engine, "One. Two. Three."))
    with wave.open(BytesIO(heard.audio)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (22050, 1, 2)
        assert file.getnframes() * 2 == len(heard.audio) - 44


async def test_sentences_follow_each_other_without_a_gap(engine: EspeakEngine) -> None:
    text = "One, two. Three!\n\n  Four five.  "
    heard = await hear(engine, says(engine, text, format="pcm_22050"))
    sentences = [mark for mark in heard.marks if mark.kind == "sentence"]
    said = [text[mark.start : mark.end] for mark in sentences]
    assert said == ["One, two.", "Three!", "Four five."]
    edges = [0.0, *(mark.end_seconds for mark in sentences)]
    assert [mark.start_seconds for mark in sentences] == edges[:-1]
    assert edges[-1] == pytest.approx(len(heard.audio) / 2 / 22050)


async def test_words_lie_within_their_sentence(engine: EspeakEngine) -> None:
    heard = await hear(engine, says(engine, "It's 3.5 km, he said. And 1,234 cats."))
    sentences = [mark for mark in heard.marks if mark.kind == "sentence"]
    for word in (mark for mark in heard.marks if mark.kind == "word"):
        (around,) = [s for s in sentences if s.start <= word.start and word.end <= s.end]
        assert around.start_seconds <= word.start_seconds <= word.end_seconds
        assert word.end_seconds <= around.end_seconds


async def test_raw_samples_come_sentence_by_sentence(engine: EspeakEngine) -> None:
    heard = await hear(engine, says(engine, "One. Two. Three.", format="pcm_22050"))
    assert [bool(piece.audio) for piece in heard.pieces] == [True, True, True, False]


async def test_every_setting_changes_the_sound(engine: EspeakEngine) -> None:
    plain = (await hear(engine, says(engine, "Nobody is awake."))).audio
    for name, value in {"pitch": 90, "range": 5, "volume": 20, "word_gap": 30}.items():
        changed = await hear(engine, says(engine, "Nobody is awake.", settings={name: value}))
        assert changed.audio != plain
    for name in ("pitch", "volume"):
        for value in (-1, 1000, 1.5, True, "high"):
            with pytest.raises(EngineRefused, match="whole number"):
                await hear(engine, says(engine, "Hello.", settings={name: value}))


@pytest.mark.parametrize("speed", [0.1, 3, -1, 0])
async def test_a_speed_that_espeak_would_bend_is_refused(
    engine: EspeakEngine, speed: float
) -> None:
    with pytest.raises(EngineRefused, match="speed"):
        await engine.check(says(engine, "Hello.", speed=speed))


@pytest.mark.parametrize("text", ["...", "—", "\u200b"])
async def test_a_text_without_a_word_is_refused(engine: EspeakEngine, text: str) -> None:
    with pytest.raises(EngineRefused):
        await hear(engine, says(engine, text))


# --- processes ------------------------------------------------------------------------------


async def test_a_process_that_died_is_replaced_and_nobody_notices(engine: EspeakEngine) -> None:
    await hear(engine, says(engine, "Hello."))
    (worker,) = our_workers()
    worker.kill()
    worker.wait(BOUND_SECONDS)
    assert (await hear(engine, says(engine, "Hello again."))).audio


async def test_a_process_that_dies_while_it_speaks_is_asked_again_once(
    engine: EspeakEngine,
) -> None:
    await engine.voices()
    (worker,) = our_workers()
    os.kill(worker.pid, signal.SIGSTOP)
    call = asyncio.ensure_future(hear(engine, says(engine, "Hello.")))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not call.done()  # what it is asked waits in its pipe
    worker.kill()
    async with asyncio.timeout(BOUND_SECONDS):
        assert (await call).audio


async def test_a_sentence_that_kills_every_process_is_an_error(
    engine: EspeakEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = count_starts(monkeypatch, "import sys; sys.stdin.buffer.read(4)")
    with pytest.raises(EngineUnavailable, match="twice") as raised:
        await hear(engine, says(engine, "Hello."))
    assert raised.value.charged is False
    assert len(started) == 2


async def test_a_voice_that_is_not_installed_says_what_to_install(
    engine: EspeakEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_starts(monkeypatch, "import sys; sys.exit(3)")
    with pytest.raises(EngineUnavailable, match=r"soundkeep\[voice\]"):
        await engine.voices()


async def test_a_process_that_hangs_is_ended_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EspeakEngine("offline", workers=1, seconds=0.5)
    count_starts(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(EngineUnavailable, match="longer than"):
        await engine.voices()
    assert not [each for each in psutil.Process().children() if "sleep(60)" in each.cmdline()]
    await engine.close()


async def test_no_answer_is_taken_for_anothers(engine: EspeakEngine) -> None:
    """A caller goes away in the middle; the next one gets her own sentence."""
    short = await hear(engine, says(engine, "No."))
    long = "This is a rather long sentence, " * 40
    for rounds in range(12):
        call = asyncio.ensure_future(hear(engine, says(engine, long)))
        for _ in range(rounds):
            await asyncio.sleep(0.001)
        call.cancel()
        await asyncio.wait([call])
        again = await hear(engine, says(engine, "No."))
        assert abs(len(again.audio) - len(short.audio)) < 2000


async def test_processes_end_with_the_engine() -> None:
    engine = EspeakEngine("offline", workers=3)
    texts = ("Hello. " * 3, "Good night. " * 3, "Who is there? " * 3)
    await asyncio.gather(*(hear(engine, says(engine, text)) for text in texts))
    assert 1 <= len(our_workers()) <= 3
    await engine.close()
    assert our_workers() == []


async def test_a_caller_who_leaves_ends_nothing_but_his_own(engine: EspeakEngine) -> None:
    async with aclosing(engine.speak(says(engine, "One. Two. Three.", format="pcm_22050"))) as said:
        await anext(said)
    assert len(our_workers()) == 1
    assert (await hear(engine, says(engine, "Hello."))).audio


async def test_a_data_path_of_any_length_will_do(tmp_path: Path) -> None:
    """The library takes 159 bytes, and ends the process beyond that."""
    import espeakng_loader

    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    program = (
        "import sys; from pathlib import Path;"
        "from soundkeep.speech.engines.espeak_worker import *;"
        "said = Espeak(Path(sys.argv[1]), Path(sys.argv[2])).say(Line('gmw/en-US', 'Hello.'));"
        "sys.stdout.buffer.write(framed(said))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        espeakng_loader.get_library_path(),
        str(deep / "espeak-ng-data"),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(BOUND_SECONDS):
        answer, _ = await process.communicate()
    said = msgspec.msgpack.decode(answer[LENGTH.size :], type=Said)
    assert said.onsets == [(0, 0)]


def count_starts(monkeypatch: pytest.MonkeyPatch, program: str) -> list[int]:
    """From now on processes run this instead."""
    real, started = asyncio.create_subprocess_exec, []

    async def start(*command: str, **how: object) -> asyncio.subprocess.Process:
        process = await real(sys.executable, "-c", program, **how)  # type: ignore[arg-type]
        started.append(process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    return started
