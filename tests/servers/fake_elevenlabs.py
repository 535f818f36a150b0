"""ElevenLabs as its clients see it: text-to-speech in its four forms, voices, models, errors.

python -m servers.fake_elevenlabs [--port N] [--delay SECONDS] [--piece-seconds SECONDS]
"""

from __future__ import annotations

import base64
from typing import Any

from aiohttp import web

from servers.fake_provider import API_KEY, Order, Provider, serve
from soundkeep.speech.engines.elevenlabs import FORMATS

PAGE = 2
MODELS = (
    ("eleven_multilingual_v2", "Eleven Multilingual v2", 10_000, 1.0, True),
    ("eleven_flash_v2_5", "Eleven Flash v2.5", 40_000, 0.5, True),
    ("eleven_english_sts_v2", "Eleven English STS", 5_000, 1.0, False),
)
VOICES = (
    ("21m00Tcm4TlvDq8ikWAM", "Rachel", "female"),
    ("pNInz6obpgDQGcFmaJgB", "Adam", "male"),
    ("EXAVITQu4vr4xnSDxMaL", "Sarah", "female"),
)


def _detail(status: int, code: str, message: str) -> tuple[int, Any]:
    return status, {"detail": {"status": code, "message": f"{message} ({API_KEY})"}}


REFUSALS = {
    "invalid_api_key": _detail(401, "invalid_api_key", "Invalid API key"),
    "quota_exceeded": _detail(401, "quota_exceeded", "This request exceeds your quota"),
    "quota_exceeded_400": _detail(400, "quota_exceeded", "This request exceeds your quota"),
    "payment_required": _detail(402, "payment_required", "Your subscription has a failed payment"),
    "voice_not_found": _detail(404, "voice_not_found", "A voice with this id was not found"),
    "model_not_found": _detail(400, "model_not_found", "A model with this id was not found"),
    "max_character_limit_exceeded": _detail(400, "max_character_limit_exceeded", "Too long"),
    "unprocessable": (
        422,
        {
            "detail": [
                {
                    "type": "less_than_equal",
                    "loc": ["body", "voice_settings", "stability"],
                    "msg": "Input should be less than or equal to 1",
                    "input": 7,
                }
            ]
        },
    ),
    "too_many_concurrent_requests": _detail(429, "too_many_concurrent_requests", "Too many"),
    "rate_limit_exceeded": _detail(429, "rate_limit_exceeded", "Too fast"),
    "system_busy": _detail(429, "system_busy", "We are busy"),
    "internal": _detail(500, "internal_server_error", "Something went wrong"),
    "unavailable": (503, {}),
}


class FakeElevenLabs(Provider):
    """The API of ElevenLabs, as far as an engine and the SDKs use it."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v2/voices", self.voices)
        router.add_get("/v1/models", self.models)
        for form in ("", "/stream", "/with-timestamps", "/stream/with-timestamps"):
            router.add_post("/v1/text-to-speech/{voice}" + form, self.speak)

    def refusal(self, fault: str) -> tuple[int, Any] | None:
        return REFUSALS.get(fault)

    def cost_headers(self, order: Order) -> dict[str, str]:
        factor = next(factor for id_, _, _, factor, _ in MODELS if id_ == order.model)
        cost = round(len(order.text) * factor)
        return {"character-cost": str(cost), "request-id": f"request-{self.counts.charges}"}

    async def voices(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return self._refused("invalid_api_key")
        start = int(request.query.get("next_page_token", 0))
        found = [
            {"voice_id": id_, "name": name, "labels": {"gender": gender, "language": "en"}}
            for id_, name, gender in VOICES[start : start + PAGE]
        ]
        more = start + PAGE < len(VOICES)
        page = {"has_more": more, "next_page_token": str(start + PAGE) if more else None}
        return self.listed({"voices": found, "total_count": len(VOICES), **page})

    async def models(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return self._refused("invalid_api_key")
        return self.listed(
            [
                {
                    "model_id": id_,
                    "name": name,
                    "can_do_text_to_speech": speaks,
                    "maximum_text_length_per_request": most,
                    "languages": [{"language_id": "en", "name": "English"}],
                    "model_rates": {"character_cost_multiplier": factor},
                }
                for id_, name, most, factor, speaks in MODELS
            ]
        )

    async def speak(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = request.query.get("output_format", "mp3_44100_128")
        format_ = FORMATS.get(name)
        if not self._knows(request):
            return self._refused("invalid_api_key")
        if request.match_info["voice"] not in {id_ for id_, *_ in VOICES}:
            return self._refused("voice_not_found")
        model = body.get("model_id", MODELS[0][0])
        if model not in {id_ for id_, *_, speaks in MODELS if speaks}:
            return self._refused("model_not_found")
        if format_ is None or format_.sample_rate_hz is None:
            return self._refused("unprocessable")
        speed = float((body.get("voice_settings") or {}).get("speed", 1.0))
        order = Order(
            body["text"],
            speed,
            name,
            format_.coding,
            format_.media_type,
            format_.sample_rate_hz,
            format_.bit_rate,
            model,
        )
        streamed = request.path.endswith("/stream/with-timestamps")
        if request.path.endswith("/with-timestamps") and not streamed:
            return await self.answer(request, order, lines="whole")
        return await self.answer(request, order, lines="lines" if streamed else "")

    def line(self, audio: bytes, spelled: list[tuple[str, float, float]]) -> Any:
        alignment = {
            "characters": [character for character, _, _ in spelled],
            "character_start_times_seconds": [start for _, start, _ in spelled],
            "character_end_times_seconds": [end for _, _, end in spelled],
        }
        return {
            "audio_base64": base64.b64encode(audio).decode(),
            "alignment": alignment if spelled else None,
            "normalized_alignment": alignment if spelled else None,
        }

    def _knows(self, request: web.Request) -> bool:
        return request.headers.get("xi-api-key") == API_KEY

    def _refused(self, fault: str) -> web.Response:
        status, body = REFUSALS[fault]
        return web.json_response(body, status=status)


if __name__ == "__main__":
    serve(FakeElevenLabs())
