"""ElevenLabs: one streaming request for each segment, with the time of every character.

`settings` of what is asked are the fields of its body by their own names (`voice_settings`, `seed`,
`previous_text`, …) and of its query (`enable_logging`, `optimize_streaming_latency`); names that we
do not know are sent on in the body.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from soundkeep.speech.asked import JSON, Asked
from soundkeep.speech.engines.checking import check_asked
from soundkeep.speech.engines.http import Answer, Patience, Provider, understood
from soundkeep.speech.engines.interface import (
    AudioFormat,
    Bill,
    EngineCaps,
    Model,
    Price,
    Speaking,
    Spoken,
    Voice,
)
from soundkeep.speech.engines.lines import Line, spoken_lines
from soundkeep.speech.engines.listing import Listing
from soundkeep.speech.engines.marks import CharacterFollower, Spelled

BASE_URL = "https://api.elevenlabs.io"
MASTER = "mp3_44100_128"
PAGES = 100  # of a hundred voices each
MAX_CHARS = 5000  # where a model does not say

_NAMES = (
    *(f"mp3_{quality}" for quality in ("22050_32", "24000_48")),
    *(f"mp3_44100_{kilobits}" for kilobits in (32, 64, 96, 128, 192)),
    *(f"pcm_{rate}" for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
    *(f"opus_48000_{kilobits}" for kilobits in (32, 64, 96, 128, 192)),
    "ulaw_8000",
    "alaw_8000",
)
_KINDS = {
    "mp3": ("audio/mpeg", "mp3"),
    "pcm": ("audio/pcm", "pcm"),
    "ulaw": ("audio/basic", "ulaw"),
    "alaw": ("audio/alaw", "alaw"),
    "opus": ("audio/ogg", "opus"),
}
_QUERY = frozenset({"enable_logging", "optimize_streaming_latency"})
_BODY = frozenset(
    {
        "voice_settings",
        "pronunciation_dictionary_locators",
        "seed",
        "previous_text",
        "next_text",
        "previous_request_ids",
        "next_request_ids",
        "use_pvc_as_ivc",
        "apply_text_normalization",
        "apply_language_text_normalization",
    }
)


def _format(name: str) -> AudioFormat:
    """As its name says: the coding, the rate, and for some the kilobits."""
    coding, rate, *kilobits = name.split("_")
    media_type, extension = _KINDS[coding]
    bit_rate = 1000 * int(kilobits[0]) if kilobits else None
    return AudioFormat(name, coding, media_type, extension, int(rate), bit_rate)


FORMATS = {name: _format(name) for name in _NAMES}


class ElevenLabsEngine:
    """ElevenLabs as an engine."""

    def __init__(
        self,
        name: str,
        api_key: str,
        *,
        base_url: str = BASE_URL,
        model: str | None = None,
        master: str = MASTER,
        timestamps: bool = True,
        price: Price | None = None,
        concurrency: int = 2,
        patience: Patience | None = None,
        list_seconds: float = 3600,
    ) -> None:
        self.name = name
        self.caps = EngineCaps(
            master=FORMATS[master],
            formats=tuple(FORMATS.values()),
            timestamps=timestamps,
            fields=_BODY | _QUERY,
            free_form=True,
            price=price,
        )
        self._model = model
        self._provider = Provider(
            name,
            base_url,
            {"xi-api-key": api_key},
            concurrency=concurrency,
            patience=patience or Patience(),
        )
        self._voices = Listing(self._list_voices, list_seconds)
        self._models = Listing(self._list_models, list_seconds)

    async def voices(self) -> list[Voice]:
        return await self._voices.all()

    async def models(self) -> list[Model]:
        return await self._models.all()

    def estimate(self, asked: Asked) -> Bill:
        model = self._models.known(asked.model)
        factor = model.characters_per_character if model else 1.0
        return Bill.of(self.caps.price, round(len(asked.text) * factor))

    async def check(self, asked: Asked) -> None:
        await check_asked(self, asked, self._voices, self._models)

    async def speak(self, asked: Asked) -> AsyncGenerator[Spoken, None]:
        await self.check(asked)
        path = f"/v1/text-to-speech/{quote(asked.voice, safe='')}/stream"
        path += "/with-timestamps" if self.caps.timestamps else ""
        async with self._provider.speak(path, _query(asked), _body(asked)) as answer:
            async with aclosing(self._pieces(answer, asked)) as pieces:
                async for piece in pieces:
                    yield piece
            yield Spoken(bill=self._bill(answer, asked))

    async def close(self) -> None:
        await self._provider.close()

    def _pieces(self, answer: Answer, asked: Asked) -> Speaking:
        if self.caps.timestamps:
            follower = CharacterFollower(asked.text)
            return spoken_lines(answer, follower, "audio_base64", _spelled)
        return answer.spoken(FORMATS[asked.format])

    def _bill(self, answer: Answer, asked: Asked) -> Bill:
        """What it counted, if it says so: some models count half a character for each."""
        told = answer.headers.get("character-cost", "")
        characters = int(told) if told.isdecimal() else self.estimate(asked).characters
        return Bill.of(self.caps.price, characters, answer.headers.get("request-id"))

    async def _list_voices(self) -> list[Voice]:
        found: list[Voice] = []
        page: dict[str, str] = {}
        for _ in range(PAGES):
            answer = await self._provider.look_up("/v2/voices", page_size="100", **page)
            with understood(self.name):
                found += [_voice(each) for each in answer["voices"]]
                if not answer.get("has_more"):
                    break
                page = {"next_page_token": str(answer["next_page_token"])}
        return found

    async def _list_models(self) -> list[Model]:
        answer = await self._provider.look_up("/v1/models")
        with understood(self.name):
            found = [_model(each) for each in answer if each.get("can_do_text_to_speech", True)]
        return sorted(found, key=lambda model: model.id != self._model)


def _query(asked: Asked) -> dict[str, str]:
    given = {name: asked.settings[name] for name in sorted(_QUERY & asked.settings.keys())}
    return {"output_format": asked.format} | {name: _text(value) for name, value in given.items()}


def _text(value: JSON) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _body(asked: Asked) -> dict[str, Any]:
    """What was given, and nothing that was not: a speed of 1 leaves the voice its own."""
    body = {name: value for name, value in asked.settings.items() if name not in _QUERY}
    if asked.language is not None:
        body["language_code"] = asked.language
    if asked.speed != 1:
        voice_settings = body.get("voice_settings")
        given = voice_settings if isinstance(voice_settings, Mapping) else {}
        body["voice_settings"] = {"speed": asked.speed, **given}
    return {**body, "text": asked.text, "model_id": asked.model}


def _spelled(line: Line) -> Spelled:
    """The alignment with the text as it was sent; some lines have none."""
    given = line.get("alignment")
    if given is None:
        return []
    starts, ends = given["character_start_times_seconds"], given["character_end_times_seconds"]
    return [
        (str(character), float(start), float(end))
        for character, start, end in zip(given["characters"], starts, ends, strict=True)
    ]


def _voice(given: Mapping[str, Any]) -> Voice:
    labels = given.get("labels") or {}
    verified = [each.get("language") for each in given.get("verified_languages") or ()]
    languages = [each for each in (labels.get("language"), *verified) if isinstance(each, str)]
    return Voice(
        str(given["voice_id"]),
        str(given.get("name") or given["voice_id"]),
        tuple(dict.fromkeys(languages)),
        labels.get("gender"),
        given.get("preview_url"),
    )


def _model(given: Mapping[str, Any]) -> Model:
    most = given.get("maximum_text_length_per_request") or given.get(
        "max_characters_request_subscribed_user"
    )
    rates = given.get("model_rates") or {}
    return Model(
        str(given["model_id"]),
        str(given.get("name") or given["model_id"]),
        int(most or MAX_CHARS),
        tuple(str(each["language_id"]) for each in given.get("languages") or ()),
        float(rates.get("character_cost_multiplier", 1.0)),
    )
