"""Whole speeches by the offline voice: joined to the sample, paid for once, timed in the text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import hits, segments, speeches
from soundkeep.catalog.schema import intents
from soundkeep.errors import BadSpeech, EngineUnavailable, OverBudget, UnknownFormat, UnknownModel
from soundkeep.model import Visibility
from soundkeep.settings import Settings
from soundkeep.settings.speech import EspeakEngineSettings, SpeechSettings
from soundkeep.speech.kept import Kept
from soundkeep.speech.request import speech_request
from soundkeep.speech.speeches import Answer
from sounds import wav
from speech.scripted import ScriptedEngine, accept

FIRST = "The keeper wound the clock. Then she slept."
SECOND = "It struck nine in the morning."
TEXT = f"{FIRST}\n\n{SECOND}"
WAV_HEAD = 44


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with build.opened(Settings(data=tmp_path)) as house:
        yield house


async def say(house: House, text: str = TEXT, **fields: Any) -> Answer:
    return await house.speeches.say(speech_request({"text": text, **fields}))


async def heard(answer: Answer) -> bytes:
    async with aclosing(answer.pieces()) as pieces:
        return b"".join([piece async for piece in pieces])


async def calls(house: House) -> int:
    return len(await house.keep.catalog.read(lambda tx: list(tx.run(select(intents)))))


# --- one sound ------------------------------------------------------------------------------


async def test_a_speech_is_the_samples_of_its_segments_one_after_another(house: House) -> None:
    whole = await heard(await say(house, format="pcm_22050"))
    parts = [await heard(await say(house, part, format="wav")) for part in (FIRST, SECOND)]
    assert whole == b"".join(part[WAV_HEAD:] for part in parts)
    assert await calls(house) == 2


async def test_one_take_in_the_engines_own_format_is_passed_on_as_it_was_spoken(
    house: House,
) -> None:
    answer = await say(house, FIRST, format="wav")
    sent = await heard(answer)
    kept = await answer.kept()
    [segment] = await house.keep.catalog.read(segments.find_all, answer.chosen.segment_keys)
    assert kept.blob.digest == segment.digest
    assert sent == b"".join([piece async for piece in house.keep.open(kept.blob)])


@pytest.mark.parametrize(
    ("format", "codec"),
    [("mp3", "mp3"), ("opus", "opus"), ("aac", "aac"), ("flac", "flac"), ("mp3_22050_32", "mp3")],
)
async def test_every_format_is_made_of_the_same_takes(
    house: House, format: str, codec: str
) -> None:
    plain = await (await say(house, format="wav")).kept()
    kept = await (await say(house, format=format)).kept()
    assert kept.blob.sound.codec == codec
    assert kept.blob.sound.duration_seconds == pytest.approx(
        plain.blob.sound.duration_seconds, abs=0.15
    )
    assert kept.generated == 0
    assert await calls(house) == 2


async def test_raw_samples_are_sent_without_the_head_of_the_wav_that_is_kept(
    house: House,
) -> None:
    answer = await say(house, format="pcm_16000")
    sent = await heard(answer)
    blob = (await answer.kept()).blob
    whole = b"".join([piece async for piece in house.keep.open(blob)])
    assert (whole[:4], whole[WAV_HEAD:]) == (b"RIFF", sent)


async def test_a_take_that_is_only_streamed_is_a_speech_too(house: House) -> None:
    answer = await say(house, FIRST, format="wav")
    async with aclosing(answer.pieces()) as pieces:
        await anext(pieces)
    async with asyncio.timeout(20):
        while await house.speeches.timing(answer.chosen.key) is None:
            await asyncio.sleep(0.01)


# --- said once ------------------------------------------------------------------------------


async def test_who_asks_again_hears_the_same_bytes_and_pays_nothing(house: House) -> None:
    first = await say(house)
    assert not first.hit
    once, paid = await heard(first), await first.kept()
    assert (paid.generated, paid.characters_paid) == (2, len(FIRST) + len(SECOND))
    again = await say(house)
    assert again.hit
    assert await heard(again) == once
    kept = await again.kept()
    assert (kept.generated, kept.characters_paid, kept.cost.billionths) == (0, 0, 0)
    assert await calls(house) == 2


async def test_after_an_edit_only_the_changed_segment_is_spoken(house: House) -> None:
    await (await say(house, f"{TEXT}\n\nThe end.")).kept()
    edited = await (await say(house, f"{FIRST}\n\n{SECOND} Twice.\n\nThe end.")).kept()
    assert (edited.generated, edited.characters_paid) == (1, len(SECOND) + len(" Twice."))
    assert await calls(house) == 4


async def test_two_texts_that_share_a_paragraph_pay_for_it_once_at_the_same_moment(
    house: House,
) -> None:
    one, other = await say(house, TEXT), await say(house, f"{SECOND}\n\nThe end.")
    both = await asyncio.gather(one.kept(), other.kept())
    assert sum(kept.generated for kept in both) == 3
    assert await calls(house) == 3


async def test_what_is_said_twice_in_one_text_is_spoken_once(house: House) -> None:
    kept = await (await say(house, f"{SECOND}\n\n{SECOND}", format="wav")).kept()
    single = await (await say(house, SECOND, format="wav")).kept()
    assert await calls(house) == 1
    assert kept.blob.size_bytes - WAV_HEAD == 2 * (single.blob.size_bytes - WAV_HEAD)


async def test_many_who_ask_at_once_share_one_assembly_and_one_of_them_has_paid(
    house: House,
) -> None:
    answers = [await say(house) for _ in range(5)]
    kept = await asyncio.gather(*(answer.kept() for answer in answers))
    assert [each.generated for each in kept].count(2) == 1
    assert sum(each.generated for each in kept) == 2
    assert len({each.blob.digest for each in kept}) == 1


async def test_who_shares_an_assembly_gets_over_anothers_empty_purse(tmp_path: Path) -> None:
    poor = SpeechSettings(budgets={"anna": Decimal(1)})
    async with build.opened(Settings(data=tmp_path, speech=poor)) as house:
        house.generation.engines["scripted"] = ScriptedEngine(wav(60_000, seed=3))
        house.generation.leader.judge = accept
        asking = {"engine": "scripted", "model": "m", "voice": "v", "timings": False}
        anna, ben = [await say(house, owner=owner, **asking) for owner in ("anna", "ben")]
        refused, heard_by_ben, kept = await asyncio.gather(
            anna.kept(), heard(ben), ben.kept(), return_exceptions=True
        )
        assert isinstance(refused, OverBudget)
        assert isinstance(kept, Kept)
        assert isinstance(heard_by_ben, bytes)
        assert len(heard_by_ben) == kept.blob.size_bytes
        assert (kept.generated, ben.segments_done) == (2, 2)


async def test_a_caller_that_hangs_up_loses_nothing(house: House) -> None:
    waiting = asyncio.create_task((await say(house)).kept())
    await asyncio.sleep(0)
    waiting.cancel()
    again = await say(house)
    assert (await again.kept()).blob.size_bytes > 0
    assert await calls(house) == 2


async def test_a_segment_that_fails_leaves_the_others_paid_for_once(house: House) -> None:
    engine = ScriptedEngine(wav(50_000, seed=3))
    house.generation.engines = {"scripted": engine}
    house.speeches.chooser._engines = house.generation.engines
    engine.error, engine.error_at = EngineUnavailable("it is out", charged=False), 0
    asking = {"engine": "scripted", "model": "m", "voice": "v", "format": "flac"}
    with pytest.raises(EngineUnavailable, match="it is out"):
        await (await say(house, TEXT, **asking)).kept()
    assert engine.calls <= 2


async def test_owners_who_do_not_share_pay_each_for_the_same_words(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, speech=SpeechSettings(share="owner"))
    async with build.opened(settings) as house:
        for owner in ("anna", "ben"):
            kept = await (await say(house, owner=owner)).kept()
            assert kept.generated == 2


async def test_hits_are_counted_for_every_segment_and_for_the_speech(house: House) -> None:
    key = (await say(house)).chosen.key
    await (await say(house)).kept()
    for _ in range(3):
        assert (await say(house)).hit
    await house.generation.counts.flush(house.keep.catalog)
    figures = await house.keep.catalog.read(hits.figures)
    assert (figures.hits, figures.misses) == (6, 2)
    found = await house.keep.catalog.read(speeches.find, key)
    assert found is not None
    assert found.hits == 3


# --- when words are heard -------------------------------------------------------------------


async def test_sentences_and_words_are_marked_in_the_text_as_it_was_sent(house: House) -> None:
    shown = "  The  keeper wound the clock.\n\n\n It   struck nine. "
    answer = await say(house, shown)
    kept = await answer.kept()
    timed = await house.speeches.timing(answer.chosen.key)
    assert timed is not None
    script, timing = timed
    assert script.shown == shown
    assert timing.source == "provider"
    sentences = [shown[mark.start : mark.end] for mark in timing.of_kind("sentence")]
    assert sentences == ["The  keeper wound the clock.", "It   struck nine."]
    starts = [mark.start_seconds for mark in timing.of_kind("word")]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < starts[-1] < kept.blob.sound.duration_seconds


async def test_the_second_segment_begins_where_the_first_ends_to_the_sample(
    house: House,
) -> None:
    answer = await say(house)
    await answer.kept()
    first = await (await say(house, FIRST, format="wav")).kept()
    timed = await house.speeches.timing(answer.chosen.key)
    assert timed is not None
    begin = timed[1].of_kind("sentence")[2].start_seconds
    assert begin == pytest.approx(first.blob.sound.duration_seconds, abs=0.001)


async def test_a_take_whose_engine_tells_no_times_is_aligned_by_the_offline_voice(
    house: House,
) -> None:
    fast = await say(house, FIRST, format="wav", speed=1.3)
    spoken = await heard(fast)
    await fast.kept()
    told = await house.speeches.timing(fast.chosen.key)
    assert told is not None
    engine = ScriptedEngine(spoken)
    engine.marks = False
    house.generation.engines["scripted"] = engine
    answer = await say(house, FIRST, engine="scripted", voice="v", format="wav")
    await answer.kept()
    found = await house.speeches.timing(answer.chosen.key)
    assert found is not None
    assert found[1].source == "aligned"
    pairs = zip(told[1].of_kind("word"), found[1].of_kind("word"), strict=True)
    errors = sorted(abs(one.start_seconds - other.start_seconds) for one, other in pairs)
    assert errors[len(errors) // 2] < 0.06  # seconds of the sound, not of a clock


async def test_nobody_knows_the_words_of_a_speech_that_is_not_there(house: House) -> None:
    assert await house.speeches.timing("0" * 64) is None


# --- tracks ---------------------------------------------------------------------------------


async def test_each_owner_has_one_track_of_a_speech_in_each_collection(house: House) -> None:
    async def track_id(**fields: Any) -> str:
        kept: Kept = await (await say(house, **fields)).kept()
        return (await house.speeches.track(kept)).id

    mine = await track_id(owner="anna", collection="clocks")
    assert await track_id(owner="anna", collection="clocks") == mine
    others = {
        await track_id(owner="ben", collection="clocks"),
        await track_id(owner="anna", collection="mornings"),
    }
    assert len(others | {mine}) == 3
    view = await house.keep.track(mine)
    assert view.track.path.startswith("clocks/")
    assert (
        view.track.title
        == "The keeper wound the clock. Then she slept. It struck nine in the morning."
    )
    assert view.track.visibility is Visibility.PRIVATE
    assert await calls(house) == 2


# --- what is left open ----------------------------------------------------------------------


async def test_what_is_not_asked_for_is_as_the_settings_have_it(tmp_path: Path) -> None:
    engines = {
        "one": EspeakEngineSettings(kind="espeak", voice="en-gb-scotland"),
        "two": EspeakEngineSettings(kind="espeak"),
    }
    settings = Settings(data=tmp_path, speech=SpeechSettings(engine="two", engines=engines))
    async with build.opened(settings) as house:
        assert (await say(house, FIRST)).chosen.asked[0].engine == "two"
        chosen = (await say(house, FIRST, engine="one")).chosen
        assert (chosen.voice, chosen.model) == ("en-gb-scotland", "espeak-ng")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"engine": "nobody"}, BadSpeech),
        ({"model": "none-such"}, UnknownModel),
        ({"format": "mp3_1_1"}, UnknownFormat),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_spoken(
    house: House, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await say(house, **fields)
    assert await calls(house) == 0


async def test_what_was_said_is_found_also_while_the_provider_is_out(house: House) -> None:
    engine = ScriptedEngine(await heard(await say(house, FIRST, format="wav")))
    house.generation.engines["scripted"] = engine
    asking = {"engine": "scripted", "model": "m", "voice": "v", "format": "wav"}
    once = await heard(await say(house, FIRST, **asking))
    engine.lists = False
    again = await say(house, FIRST, **asking)
    assert again.hit
    assert await heard(again) == once


@pytest.mark.parametrize(
    ("name", "engine", "model"),
    [
        (None, "offline", None),
        ("offline", "offline", None),
        ("scripted/m", "scripted", "m"),
        ("m", "scripted", "m"),
        ("tts-1", "offline", None),
    ],
)
async def test_a_gateways_model_names_an_engine_or_a_model_or_both(
    house: House, name: str | None, engine: str, model: str | None
) -> None:
    house.generation.engines["scripted"] = ScriptedEngine(b"")
    assert await house.speeches.chooser.named(name) == (engine, model)
