"""Engines as they are set: what the settings say reaches the engine, and no key is shown."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from servers.fake_provider import API_KEY, Fake
from soundkeep.errors import EngineRefused, SettingsError, UnknownVoice
from soundkeep.settings import Settings
from soundkeep.settings.sources import load
from soundkeep.settings.speech import ENGINE_KINDS
from soundkeep.speech.engines.interface import Engine
from soundkeep.speech.engines.kinds import KINDS, make_engine
from soundkeep.testing.engine_contract import hear
from speech.engines.asking import TEXT, asked


def set_up(tmp_path: Path, toml: str) -> Settings:
    file = tmp_path / "soundkeep.toml"
    file.write_text(toml)
    return load(file, environ={})


def engine_of(tmp_path: Path, toml: str) -> Engine:
    ((name, settings),) = set_up(tmp_path, toml).speech.engines.items()
    return make_engine(name, settings)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{API_KEY}\n")
    return file


def test_every_kind_is_in_the_settings_and_in_the_table() -> None:
    assert set(KINDS) == set(ENGINE_KINDS)


async def test_without_any_setting_the_offline_voice_speaks() -> None:
    ((name, settings),) = Settings().speech.engines.items()
    engine = make_engine(name, settings)
    assert (await hear(engine, asked(engine, "espeak-ng", "en-us"))).audio
    await engine.close()


async def test_elevenlabs_is_asked_as_it_was_set(
    tmp_path: Path, key_file: Path, fake_elevenlabs: Fake
) -> None:
    engine = engine_of(
        tmp_path,
        f"""
        [speech.engines.eleven]
        kind = "elevenlabs"
        api_key = "file:{key_file}"
        base_url = "{fake_elevenlabs.url}"
        model = "eleven_flash_v2_5"
        format = "mp3_22050_32"
        price = "0.10"
        currency = "EUR"
        """,
    )
    model, voice = (await engine.models())[0], (await engine.voices())[1]
    assert model.id == "eleven_flash_v2_5"
    settings = {"voice_settings": {"stability": 0.5}, "seed": 7, "enable_logging": False}
    heard = await hear(
        engine,
        asked(engine, model.id, voice.id, speed=1.1, language="en", settings=settings | {"new": 1}),
    )
    (call,) = fake_elevenlabs.charges()["asked"]
    assert call["path"].endswith("/with-timestamps?output_format=mp3_22050_32&enable_logging=false")
    assert call["body"] == {
        "text": TEXT,
        "model_id": "eleven_flash_v2_5",
        "language_code": "en",
        "voice_settings": {"stability": 0.5, "speed": 1.1},
        "seed": 7,
        "new": 1,
    }
    assert heard.bill.characters == round(len(TEXT) / 2)  # as it charges for this model
    assert heard.bill.cost == Decimal("0.10") * heard.bill.characters / 1000
    assert (heard.bill.currency, heard.bill.request_id) == ("EUR", "request-1")
    await engine.close()


async def test_a_server_of_openais_protocol_is_asked_as_it_was_set(
    tmp_path: Path, key_file: Path, fake_openai: Fake
) -> None:
    engine = engine_of(
        tmp_path,
        f"""
        [speech.engines.hosted]
        kind = "openai"
        api_key = "file:{key_file}"
        base_url = "{fake_openai.url}/v1"
        voices = ["coral"]
        model = "tts-1-hd"
        format = "opus"
        """,
    )
    assert [voice.id for voice in await engine.voices()] == ["coral"]
    model = (await engine.models())[0]
    how = {"instructions": "Whisper."}
    heard = await hear(engine, asked(engine, model.id, "coral", speed=1.5, settings=how))
    assert heard.audio.startswith(b"OggS")
    assert heard.bill.cost is None
    (call,) = fake_openai.charges()["asked"]
    assert call == {
        "path": "/v1/audio/speech",
        "body": {
            "model": "tts-1-hd",
            "voice": "coral",
            "input": TEXT,
            "response_format": "opus",
            "speed": 1.5,
            "instructions": "Whisper.",
        },
    }
    with pytest.raises(UnknownVoice):  # the server knows her, but we cannot know that
        await hear(engine, asked(engine, model.id, "nova"))
    await engine.close()


async def test_kokoro_is_found_by_itself_and_its_captions_are_used(
    tmp_path: Path, fake_kokoro: Fake
) -> None:
    engine = engine_of(
        tmp_path,
        f"""
        [speech.engines.kokoro]
        kind = "openai"
        base_url = "{fake_kokoro.url}/v1"
        """,
    )
    heard = await hear(engine, asked(engine, "tts-1", "nova", settings={"lang_code": "a"}))
    assert engine.caps.timestamps
    assert heard.marks
    (call,) = fake_kokoro.charges()["asked"]
    assert call["path"] == "/dev/captioned_speech"
    assert call["body"]["lang_code"] == "a"
    await engine.close()


async def test_a_server_without_captions_is_asked_for_them_once(
    tmp_path: Path, key_file: Path, fake_openai: Fake
) -> None:
    toml = f"""
        [speech.engines.hosted]
        kind = "openai"
        api_key = "file:{key_file}"
        base_url = "{fake_openai.url}/v1"
        voices = ["alloy"]
        """
    engine = engine_of(tmp_path, toml)
    for _ in range(2):
        heard = await hear(engine, asked(engine, "tts-1", "alloy"))
        assert not heard.marks
    assert not engine.caps.timestamps
    assert {call["path"] for call in fake_openai.charges()["asked"]} == {"/v1/audio/speech"}
    await engine.close()


async def test_the_offline_voice_takes_no_field_it_does_not_know(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, '[speech.engines.voice]\nkind = "espeak"\nformat = "wav_22050"')
    assert engine.caps.master.name == "wav_22050"
    with pytest.raises(EngineRefused, match="'seed'"):
        await engine.check(asked(engine, "espeak-ng", "en-us", settings={"seed": 1}))
    await engine.close()


@pytest.mark.parametrize(
    "toml", ['kind = "espeak"\nformat = "pcm_22050"', 'kind = "openai"\nformat = "pcm"']
)
def test_bare_samples_are_no_format_to_keep(tmp_path: Path, toml: str) -> None:
    with pytest.raises(SettingsError, match=r"speech\.engines\.it\.format: one of "):
        engine_of(tmp_path, f"[speech.engines.it]\n{toml}")


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('kind = "elevenlabs"', "speech.engines.it.api_key: Field required"),
        (f'kind = "elevenlabs"\napi_key = "{API_KEY}"', "env:NAME or file:PATH"),
        (f'kind = "openai"\napi_key = "{API_KEY}"', "env:NAME or file:PATH"),
        ('kind = "openai"\nbase_url = "ftp://x"', "speech.engines.it.base_url"),
        ('kind = "openai"\nbase_url = "https://me:secret@x"', "speech.engines.it.base_url"),
        ('kind = "openai"\nprice = -1', "speech.engines.it.price"),
        ('kind = "openai"\ncurrency = "euro"', "speech.engines.it.currency"),
        ('kind = "espeak"\napi_key = "env:X"', "there is no such setting"),
        ('kind = "piper"', "speech.engines.it"),
    ],
)
def test_a_wrong_setting_is_named_and_no_key_is_shown(tmp_path: Path, toml: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        set_up(tmp_path, f"[speech.engines.it]\n{toml}")
    assert says in str(raised.value)
    assert API_KEY not in str(raised.value)


def test_a_name_that_cannot_stand_in_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="an engine's name"):
        set_up(tmp_path, '[speech.engines."My Voice"]\nkind = "espeak"')


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_format_that_the_kind_does_not_have_is_refused(
    tmp_path: Path, kind: str, key_file: Path
) -> None:
    key = f'api_key = "file:{key_file}"' if kind != "espeak" else ""
    with pytest.raises(SettingsError, match=r"speech\.engines\.it\.format"):
        engine_of(tmp_path, f'[speech.engines.it]\nkind = "{kind}"\nformat = "mp5"\n{key}')


def test_a_key_that_is_not_there_is_said_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    toml = '[speech.engines.it]\nkind = "elevenlabs"\napi_key = "env:NO_SUCH_KEY"'
    with pytest.raises(SettingsError, match="NO_SUCH_KEY"):
        engine_of(tmp_path, toml)
