"""Every engine keeps the whole contract: the real offline voice, and the others with servers."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from decimal import Decimal

import av
import pytest

from servers.fake_provider import API_KEY, Fake
from soundkeep.speech.engines.elevenlabs import ElevenLabsEngine
from soundkeep.speech.engines.espeak import EspeakEngine
from soundkeep.speech.engines.interface import AudioFormat, Engine, Price
from soundkeep.speech.engines.openai import OpenAIEngine
from soundkeep.testing import EngineContract

PRICE = Price(Decimal("0.30"), "EUR")
VOICES = ("alloy", "nova")


class Decoding(EngineContract):
    """The contract, with the length of every sound known."""

    secrets = (API_KEY,)

    def seconds_of(self, audio: bytes, format_: AudioFormat) -> float | None:
        if format_.coding == "pcm":
            return super().seconds_of(audio, format_)
        with av.open(io.BytesIO(audio), format=format_.coding) as file:
            return sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))


class TestEspeak(Decoding):
    @pytest.fixture(params=["wav_22050", "pcm_22050"])
    async def engine(self, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
        engine = EspeakEngine("offline", master=request.param)
        yield engine
        await engine.close()

    async def a_voice(self, engine: Engine) -> str:
        return "en-us"


class TestElevenLabs(Decoding):
    @pytest.fixture(params=[True, False], ids=["with times", "plain"])
    async def engine(
        self, request: pytest.FixtureRequest, fake_elevenlabs: Fake
    ) -> AsyncIterator[Engine]:
        engine = ElevenLabsEngine(
            "eleven", API_KEY, base_url=fake_elevenlabs.url, timestamps=request.param, price=PRICE
        )
        yield engine
        await engine.close()


class TestOpenAI(Decoding):
    @pytest.fixture
    async def engine(self, fake_openai: Fake) -> AsyncIterator[Engine]:
        url = f"{fake_openai.url}/v1"
        engine = OpenAIEngine("openai", API_KEY, base_url=url, voices=VOICES, price=PRICE)
        yield engine
        await engine.close()


class TestKokoro(Decoding):
    @pytest.fixture
    async def engine(self, fake_kokoro: Fake) -> AsyncIterator[Engine]:
        engine = OpenAIEngine("kokoro", base_url=f"{fake_kokoro.url}/v1/", captions=True)
        yield engine
        await engine.close()
