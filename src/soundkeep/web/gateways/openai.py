"""OpenAI's protocol at `/openai/v1`: `audio/speech`, plain or as events, and `models`.

A client sets its base URL to `…/openai/v1` and its API key to Soundkeep's. `voice` and `model` may
be left out; a text may be longer than OpenAI's 4096 characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from soundkeep import errors
from soundkeep.errors import BadSpeech, SoundkeepError
from soundkeep.speech.engines.interface import Model
from soundkeep.web.exchange import Exchange
from soundkeep.web.gateways.faults import Fault, NoSuchRoute
from soundkeep.web.gateways.fields import decoded, only, text
from soundkeep.web.gateways.forms import Events, Form, Live
from soundkeep.web.gateways.gateway import Gateway, Wish, send_json
from soundkeep.web.headers import Headers

PREFIX = "/openai/v1"

# Fields that cannot be heard: they are neither sent on nor part of the key.
SILENT = {
    "stream_format": "how the same sound is wrapped for this client",
    "user": "who asks the client, for its provider's statistics",
    "stream": "Kokoro's word for how the answer is sent; ours always streams",
}
OWN = frozenset({"model", "input", "voice", "response_format", "speed"})

FORMS: Mapping[str, Form] = {"audio": Live(), "sse": Events()}

# What OpenAI calls raw samples has 24 kHz, whatever the engine's own rate is.
FORMATS = {"pcm": "pcm_24000"}

# Error, its type, its code where ours is not the word that clients know, and the field it is about.
WORDS: tuple[tuple[type[SoundkeepError], str, str | None, str | None], ...] = (
    (errors.Unauthorized, "invalid_request_error", "invalid_api_key", None),
    (errors.OverBudget, "insufficient_quota", "insufficient_quota", None),
    (errors.EngineOutOfCredit, "insufficient_quota", "insufficient_quota", None),
    (errors.EngineThrottled, "requests", "rate_limit_exceeded", None),
    (errors.UnknownModel, "invalid_request_error", "model_not_found", "model"),
    (errors.UnknownVoice, "invalid_request_error", None, "voice"),
    (errors.UnknownFormat, "invalid_request_error", None, "response_format"),
    (errors.TextTooLong, "invalid_request_error", "string_above_max_length", "input"),
    (errors.BadText, "invalid_request_error", None, "input"),
)


class OpenAIGateway(Gateway):
    """Answers everything under `/openai/v1`."""

    prefix = PREFIX

    async def answer(self, exchange: Exchange) -> None:
        path = exchange.path.removeprefix(PREFIX)
        if path == "/audio/speech":
            only(exchange, "POST")
            await self.speak(exchange)
        elif path == "/models" or path.startswith("/models/"):
            only(exchange, "GET")
            self.admit(exchange)
            await self._tell_models(exchange, path.removeprefix("/models").removeprefix("/"))
        else:
            raise NoSuchRoute(f"Invalid URL ({exchange.method} {exchange.path})")

    async def understand(self, exchange: Exchange, body: bytes) -> Wish:
        given = decoded(body)
        form = FORMS.get(text(given, "stream_format") or "audio")
        if form is None:
            raise BadSpeech(f"stream_format is one of {', '.join(FORMS)}")
        engine, model = await self.speeches.chooser.named(text(given, "model"))
        format_ = text(given, "response_format") or "mp3"
        fields = {
            "text": given.get("input"),
            "voice": _voice(given.get("voice")),
            "engine": engine,
            "model": model,
            "speed": given.get("speed"),
            "format": FORMATS.get(format_, format_),
            "settings": {
                name: value for name, value in given.items() if name not in OWN | SILENT.keys()
            },
        }
        return Wish(fields, form)

    def refusal(self, fault: Fault) -> tuple[int, Headers, bytes]:
        type_, code, param = _words(fault)
        told = {"message": fault.message, "type": type_, "param": param, "code": code}
        again = b"true" if fault.may_retry else b"false"
        return fault.status, [(b"x-should-retry", again)], msgspec.json.encode({"error": told})

    async def _tell_models(self, exchange: Exchange, wanted: str) -> None:
        listed = dict(_named(await self.models()))
        if not wanted:
            await send_json(
                exchange, msgspec.json.encode({"object": "list", "data": list(listed.values())})
            )
        elif wanted in listed:
            await send_json(exchange, msgspec.json.encode(listed[wanted]))
        else:
            raise errors.UnknownModel(f"The model '{wanted}' does not exist")


def _named(models: list[tuple[str, Model]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model by its id; with its engine's name before it, where another engine has that too."""
    taken: set[str] = set()
    for engine, model in models:
        id_ = f"{engine}/{model.id}" if model.id in taken else model.id
        taken.add(id_)
        yield id_, {"id": id_, "object": "model", "created": 0, "owned_by": engine}


def _voice(given: Any) -> Any:
    """A name, or an object with one as its `id`."""
    return given.get("id") if isinstance(given, dict) else given


def _words(fault: Fault) -> tuple[str, str | None, str | None]:
    for kind, type_, code, param in WORDS:
        if isinstance(fault.error, kind):
            return type_, code or fault.error.code, param
    type_ = "invalid_request_error" if fault.status < 500 else "server_error"
    return type_, fault.error.code, None
