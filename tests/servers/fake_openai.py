"""Servers of OpenAI's protocol as their clients see them: OpenAI's own, and Kokoro-FastAPI.

    python -m servers.fake_openai [--kokoro] [--port N] [--delay SECONDS] [--piece-seconds SECONDS]

With `--kokoro` it lists its voices, has captions, and words its errors as FastAPI does.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

from aiohttp import web

from servers.fake_provider import API_KEY, Order, Provider, serve

MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
VOICES = ("alloy", "ash", "coral", "echo", "nova")
MAX_CHARS = 4096
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
SAMPLE_RATES_HZ = {"opus": 48000}


def _error(
    status: int, type_: str, code: str | None, message: str, param: str | None = None
) -> tuple[int, Any]:
    told = {"message": f"{message} ({API_KEY})", "type": type_, "param": param, "code": code}
    return status, {"error": told}


REFUSALS = {
    "invalid_api_key": _error(401, "invalid_request_error", "invalid_api_key", "Incorrect key"),
    "insufficient_quota": _error(429, "insufficient_quota", "insufficient_quota", "No quota left"),
    "payment_required": _error(402, "billing_error", None, "Payment required"),
    "unprocessable": (
        422,
        {"detail": [{"type": "missing", "loc": ["body", "voice"], "msg": "Field required"}]},
    ),
    "bad_speed": _error(400, "invalid_request_error", None, "Invalid speed", "speed"),
    "model_not_found": _error(404, "invalid_request_error", "model_not_found", "No such model"),
    "rate_limit_exceeded": _error(429, "requests", "rate_limit_exceeded", "Too fast"),
    "too_many_concurrent_requests": _error(429, "requests", "rate_limit_exceeded", "Too many"),
    "kokoro_voice": (
        400,
        {"detail": {"error": "validation_error", "message": "Voice not found", "type": "invalid"}},
    ),
    "internal": _error(500, "server_error", None, "Something went wrong"),
    "unavailable": _error(503, "server_error", None, "Overloaded"),
}


class FakeOpenAI(Provider):
    """The API of OpenAI for speech; as Kokoro-FastAPI has it, if told so."""

    def __init__(self, kokoro: bool) -> None:
        super().__init__()
        self.kokoro = kokoro

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/models", self.models)
        router.add_post("/v1/audio/speech", self.speak)
        if self.kokoro:
            router.add_get("/v1/audio/voices", self.voices)
            router.add_post("/dev/captioned_speech", self.captioned)

    def refusal(self, fault: str) -> tuple[int, Any] | None:
        return REFUSALS.get(fault)

    def cost_headers(self, order: Order) -> dict[str, str]:
        return {"x-request-id": f"req_{self.counts.charges}"}

    async def models(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return self._refused("invalid_api_key")
        return self.listed({"object": "list", "data": [{"id": id_} for id_ in MODELS]})

    async def voices(self, request: web.Request) -> web.Response:
        return self.listed({"voices": list(VOICES)})

    async def speak(self, request: web.Request) -> web.StreamResponse:
        return await self._speak(request, lines="")

    async def captioned(self, request: web.Request) -> web.StreamResponse:
        return await self._speak(request, lines="lines")

    async def _speak(self, request: web.Request, lines: str) -> web.StreamResponse:
        body = await request.json()
        if not self._knows(request):
            return self._refused("invalid_api_key")
        if body.get("model") not in MODELS:
            return self._refused("model_not_found")
        format_ = body.get("response_format", "mp3")
        if body.get("voice") not in VOICES or format_ not in MEDIA_TYPES:
            return self._refused("unprocessable")
        if not 0.25 <= float(body.get("speed", 1.0)) <= 4 or len(body["input"]) > MAX_CHARS:
            return self._refused("bad_speed")
        order = Order(
            body["input"],
            float(body.get("speed", 1.0)),
            format_,
            format_,
            MEDIA_TYPES[format_],
            SAMPLE_RATES_HZ.get(format_, 24000),
            model=body["model"],
        )
        return await self.answer(request, order, lines=lines)

    def line(self, audio: bytes, spelled: list[tuple[str, float, float]]) -> Any:
        return {
            "audio": base64.b64encode(audio).decode(),
            "audio_format": "audio/mpeg",
            "timestamps": [
                {"word": word, "start_time": start, "end_time": end}
                for word, start, end in _joined(spelled)
            ],
        }

    def _knows(self, request: web.Request) -> bool:
        return self.kokoro or request.headers.get("Authorization") == f"Bearer {API_KEY}"

    def _refused(self, fault: str) -> web.Response:
        status, body = REFUSALS[fault]
        return web.json_response(body, status=status)


def _joined(spelled: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Runs of letters and digits as one, everything else but spaces by itself."""
    found: list[tuple[str, float, float]] = []
    fresh = True
    for character, start, end in spelled:
        if found and not fresh and character.isalnum() and found[-1][0][-1].isalnum():
            found[-1] = found[-1][0] + character, found[-1][1], end
        elif not character.isspace():
            found.append((character, start, end))
        fresh = character.isspace()
    return found


if __name__ == "__main__":
    kokoro = "--kokoro" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--kokoro"]
    serve(FakeOpenAI(kokoro))
