"""ElevenLabs' protocol at `/elevenlabs`: text to speech in its four forms, voices and models.

A client sets its base URL to `…/elevenlabs` and its API key to Soundkeep's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from soundkeep import errors
from soundkeep.errors import BadInput, BadSpeech, SoundkeepError
from soundkeep.speech.choosing import Chosen
from soundkeep.speech.engines.interface import Model, Voice
from soundkeep.web.exchange import Exchange
from soundkeep.web.gateways.faults import Fault, NoSuchRoute
from soundkeep.web.gateways.fields import decoded, only, text
from soundkeep.web.gateways.forms import Form, Live, Whole
from soundkeep.web.gateways.gateway import Gateway, Wish, send_json
from soundkeep.web.gateways.times import TimestampLines, Timestamps
from soundkeep.web.headers import Headers

PREFIX = "/elevenlabs"
SPEAKING = "/v1/text-to-speech/"
VOICES = "/v1/voices/"
DEFAULT_FORMAT = "mp3_44100_128"
PAGE = 10  # voices, as ElevenLabs has it
MAX_PAGE = 100
NOT_RETRIED = 424  # in place of a status that the SDKs try again by themselves

# Fields that cannot be heard: they are neither sent on nor part of the key.
SILENT = {
    "optimize_streaming_latency": "trades quality for the first moment of a first call only",
}
# Nor are those with their usual value. To ask that nothing be logged is the client's right.
USUAL = {"enable_logging": "true"}
OWN = frozenset({"text", "model_id", "language_code", "output_format"})

FORMS: Mapping[str, Form] = {
    "": Whole(),
    "stream": Live(),
    "with-timestamps": Timestamps(),
    "stream/with-timestamps": TimestampLines(),
}

# Error, its word in ElevenLabs' own language, and its status where that is another than ours.
WORDS: tuple[tuple[type[SoundkeepError], str, int | None], ...] = (
    (errors.Unauthorized, "invalid_api_key", None),
    (errors.OverBudget, "quota_exceeded", None),
    (errors.EngineOutOfCredit, "quota_exceeded", None),
    (errors.EngineThrottled, "rate_limit_exceeded", None),
    (errors.UnknownModel, "model_not_found", 400),
    (errors.UnknownVoice, "voice_not_found", 404),
    (errors.UnknownFormat, "invalid_output_format", None),
    (errors.TextTooLong, "max_character_limit_exceeded", None),
    (errors.UploadTooLarge, "max_character_limit_exceeded", 400),
)


class ElevenLabsGateway(Gateway):
    """Answers everything under `/elevenlabs`."""

    prefix = PREFIX

    async def answer(self, exchange: Exchange) -> None:
        path = exchange.path.removeprefix(PREFIX)
        if path.startswith(SPEAKING):
            only(exchange, "POST")
            await self.speak(exchange)
            return
        only(exchange, "GET")
        self.admit(exchange)
        if path == "/v2/voices":
            await self._tell_page(exchange)
        elif path == "/v1/voices":
            await _tell(exchange, {"voices": await self._voices()})
        elif path.startswith(VOICES):
            await self._tell_voice(exchange, path.removeprefix(VOICES))
        elif path == "/v1/models":
            await _tell(exchange, [_model(*each) for each in await self.models()])
        else:
            raise NoSuchRoute(f"there is nothing at {exchange.path}")

    async def understand(self, exchange: Exchange, body: bytes) -> Wish:
        path = exchange.path.removeprefix(PREFIX + SPEAKING)
        voice, _, form_name = path.partition("/")
        form = FORMS.get(form_name)
        if form is None or not voice:
            raise NoSuchRoute(f"there is nothing at {exchange.path}")
        query = {name: values[-1] for name, values in _query(exchange).items()}
        given = {**decoded(body), **query}
        engine, model = await self.speeches.chooser.named(text(given, "model_id"))
        settings, speed = _settings_and_speed(given)
        fields = {
            "text": given.get("text"),
            "voice": voice,
            "engine": engine,
            "model": model,
            "language": given.get("language_code"),
            "speed": speed,
            "format": text(given, "output_format") or DEFAULT_FORMAT,
            "settings": settings,
        }
        return Wish(fields, form)

    def own_headers(self, chosen: Chosen, characters: int) -> Headers:
        return [
            (b"request-id", chosen.key.encode()),
            (b"character-cost", b"%d" % characters),
        ]

    def refusal(self, fault: Fault) -> tuple[int, Headers, bytes]:
        code, status = _words(fault)
        if not fault.may_retry and (status >= 500 or status == 429):
            status = NOT_RETRIED
        return status, [], msgspec.json.encode({"detail": _detail(fault, status, code)})

    # --- lists ------------------------------------------------------------------------------

    async def _tell_page(self, exchange: Exchange) -> None:
        asked = _query(exchange)
        start, size = _number(asked, "next_page_token", 0), _number(asked, "page_size", PAGE)
        stop = start + min(max(1, size), MAX_PAGE)
        found = [each for each in await self._voices() if _is_sought(each, asked)]
        more = stop < len(found)
        page = {"has_more": more, "total_count": len(found)}
        token = {"next_page_token": str(stop) if more else None}
        await _tell(exchange, {"voices": found[start:stop], **page, **token})

    async def _tell_voice(self, exchange: Exchange, id_: str) -> None:
        for voice in await self._voices():
            if voice["voice_id"] == id_:
                await _tell(exchange, voice)
                return
        raise errors.UnknownVoice(f"there is no voice {id_!r}")

    async def _voices(self) -> list[dict[str, Any]]:
        """Of all engines, the first to have an id; and the names that the settings give them."""
        found: dict[str, dict[str, Any]] = {}
        for engine, voice in await self.voices():
            found.setdefault(voice.id, _voice(engine, voice))
        for other, id_ in self.context.keep.settings.speech.voices.items():
            if id_ in found:
                found.setdefault(other, {**found[id_], "voice_id": other, "name": other})
        return list(found.values())


def _voice(engine: str, voice: Voice) -> dict[str, Any]:
    languages = {"language": voice.languages[0]} if voice.languages else {}
    gender = {"gender": voice.gender} if voice.gender else {}
    return {
        "voice_id": voice.id,
        "name": voice.name,
        "category": "premade",
        "labels": {"engine": engine, **languages, **gender},
        "preview_url": voice.preview_url,
    }


def _model(engine: str, model: Model) -> dict[str, Any]:
    return {
        "model_id": model.id,
        "name": model.name,
        "description": f"spoken by {engine}",
        "can_do_text_to_speech": True,
        "maximum_text_length_per_request": model.max_chars,
        "languages": [{"language_id": each, "name": each} for each in model.languages],
        "model_rates": {"character_cost_multiplier": model.characters_per_character},
    }


def _is_sought(voice: Mapping[str, Any], asked: Mapping[str, list[str]]) -> bool:
    """By the filters that are the same for every engine: words, and ids."""
    words = " ".join(asked.get("search", [])).lower()
    ids = asked.get("voice_ids")
    told = f"{voice['voice_id']} {voice['name']} {' '.join(voice['labels'].values())}".lower()
    return words in told and (ids is None or voice["voice_id"] in ids)


# --- what is asked for ----------------------------------------------------------------------


def _query(exchange: Exchange) -> dict[str, list[str]]:
    return parse_qs(exchange.query.decode("latin-1"))


def _number(asked: Mapping[str, list[str]], name: str, usual: int) -> int:
    value = asked.get(name, [str(usual)])[-1]
    if not value.isdecimal() or len(value) > 6:
        raise BadSpeech(f"{name} is a number")
    return int(value)


def _settings_and_speed(given: Mapping[str, Any]) -> tuple[dict[str, Any], object]:
    """What goes to the engine as it came. A speed has a place of its own, where every engine finds
    it; a speed of 1 is left where it was, for it may be meant to undo the voice's own."""
    settings = {
        name: value
        for name, value in given.items()
        if name not in OWN | SILENT.keys() and USUAL.get(name) != str(value).lower()
    }
    voice_settings = settings.get("voice_settings")
    if not isinstance(voice_settings, dict) or voice_settings.get("speed") in (None, 1):
        return settings, None
    rest = {name: value for name, value in voice_settings.items() if name != "speed"}
    kept = {"voice_settings": rest} if rest else {}
    others = {name: value for name, value in settings.items() if name != "voice_settings"}
    return {**others, **kept}, voice_settings["speed"]


async def _tell(exchange: Exchange, told: Any) -> None:
    await send_json(exchange, msgspec.json.encode(told))


# --- what went wrong ------------------------------------------------------------------------


def _words(fault: Fault) -> tuple[str, int]:
    for kind, code, status in WORDS:
        if isinstance(fault.error, kind):
            return code, status or fault.status
    is_invalid = isinstance(fault.error, BadInput) and fault.status == 400
    return fault.error.code, 422 if is_invalid else fault.status


def _detail(fault: Fault, status: int, code: str) -> Any:
    """An object, but a list of one where the request itself is not understood."""
    if status == 422:
        field = ["text"] if isinstance(fault.error, errors.BadText) else []
        return [{"type": code, "loc": ["body", *field], "msg": fault.message}]
    return {"status": code, "code": code, "message": fault.message}
