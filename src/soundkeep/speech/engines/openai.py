"""Any server that speaks OpenAI's protocol for speech: OpenAI, Kokoro-FastAPI, LocalAI and others.

`settings` of what is asked are fields of its body by their own names (`instructions`, Kokoro's
`lang_code`, …), sent as they are. The protocol has no language of its own, so none is sent. Where
the server has Kokoro's `/dev/captioned_speech`, that is used, for the times of words it tells.

Not every server lists its voices, and some speak with another when they do not know one: what is
neither listed nor named in the settings is refused here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from soundkeep.errors import EngineRefused
from soundkeep.speech.asked import Asked
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
from soundkeep.speech.engines.marks import Spelled, WordFollower

BASE_URL = "https://api.openai.com/v1"
MASTER = "mp3"
MAX_CHARS = 4096  # of OpenAI itself
CAPTIONED = "/dev/captioned_speech"

FORMATS = {
    each.name: each
    for each in (
        AudioFormat("mp3", "mp3", "audio/mpeg", "mp3"),
        AudioFormat("opus", "opus", "audio/ogg", "opus"),
        AudioFormat("aac", "aac", "audio/aac", "aac"),
        AudioFormat("flac", "flac", "audio/flac", "flac"),
        AudioFormat("wav", "wav", "audio/wav", "wav"),
        AudioFormat("pcm", "pcm", "audio/pcm", "pcm", 24000),
    )
}


class OpenAIEngine:
    """A server of OpenAI's protocol as an engine."""

    def __init__(
        self,
        name: str,
        api_key: str | None = None,
        *,
        base_url: str = BASE_URL,
        model: str | None = None,
        voices: tuple[str, ...] = (),
        models: tuple[str, ...] = (),
        max_chars: int = MAX_CHARS,
        master: str = MASTER,
        captions: bool | None = None,
        price: Price | None = None,
        concurrency: int = 2,
        patience: Patience | None = None,
        list_seconds: float = 3600,
    ) -> None:
        self.name = name
        self.caps = EngineCaps(
            master=FORMATS[master],
            formats=tuple(FORMATS.values()),
            timestamps=bool(captions),
            fields=frozenset({"instructions"}),
            free_form=True,
            price=price,
        )
        self._model = model
        self._more_voices = voices
        self._more_models = models
        self._max_chars = max_chars
        self._captions = captions  # None: the server has not been asked yet
        root = base_url.rstrip("/").removesuffix("/v1")
        self._v1 = base_url.rstrip("/").removeprefix(root)
        self._provider = Provider(
            name,
            root,
            {"Authorization": f"Bearer {api_key}"} if api_key else {},
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
        return Bill.of(self.caps.price, len(asked.text))

    async def check(self, asked: Asked) -> None:
        await check_asked(self, asked, self._voices, self._models)

    async def speak(self, asked: Asked) -> AsyncGenerator[Spoken, None]:
        await self.check(asked)
        captions = await self._has_captions()
        path = CAPTIONED if captions else f"{self._v1}/audio/speech"
        async with self._provider.speak(path, {}, _body(asked, captions)) as answer:
            async with aclosing(_pieces(answer, asked, captions)) as pieces:
                async for piece in pieces:
                    yield piece
            yield Spoken(bill=self._bill(answer, asked))

    async def close(self) -> None:
        await self._provider.close()

    async def _has_captions(self) -> bool:
        if self._captions is None:
            self._captions = await self._provider.has(CAPTIONED)
            self.caps = replace(self.caps, timestamps=self._captions)
        return self._captions

    def _bill(self, answer: Answer, asked: Asked) -> Bill:
        request_id = answer.headers.get("x-request-id")
        return Bill.of(self.caps.price, len(asked.text), request_id)

    async def _list_voices(self) -> list[Voice]:
        """Kokoro and others list names, or objects with one; OpenAI has no such list."""
        listed = await self._look_up_if_there("/audio/voices", "voices")
        with understood(self.name):
            found = [_voice(each) for each in listed]
        return [*found, *(Voice(id_, id_) for id_ in self._more_voices)]

    async def _list_models(self) -> list[Model]:
        listed = await self._look_up_if_there("/models", "data")
        with understood(self.name):
            ids = [*(str(each["id"]) for each in listed), *self._more_models]
        found = [Model(id_, id_, self._max_chars) for id_ in dict.fromkeys(ids)]
        return sorted(found, key=lambda model: model.id != self._model)

    async def _look_up_if_there(self, path: str, member: str) -> list[Any]:
        try:
            answer = await self._provider.look_up(self._v1 + path)
        except EngineRefused:  # 404, 405: this server does not list them
            return []
        with understood(self.name):
            return list(answer[member] if isinstance(answer, Mapping) else answer)


def _body(asked: Asked, captions: bool) -> dict[str, Any]:
    """What was given, and nothing that was not: a speed of 1 is every server's own."""
    body: dict[str, Any] = dict(asked.settings)
    if asked.speed != 1:
        body["speed"] = asked.speed
    if captions:
        body |= {"stream": True, "return_timestamps": True}
    return body | {
        "model": asked.model,
        "voice": asked.voice,
        "input": asked.text,
        "response_format": asked.format,
    }


def _pieces(answer: Answer, asked: Asked, captions: bool) -> Speaking:
    if captions:
        return spoken_lines(answer, WordFollower(asked.text), "audio", _spelled)
    return answer.spoken(FORMATS[asked.format])


def _spelled(line: Line) -> Spelled:
    return [
        (str(each["word"]).strip(), float(each["start_time"]), float(each["end_time"]))
        for each in line.get("timestamps") or ()
    ]


def _voice(given: Any) -> Voice:
    if isinstance(given, str):
        return Voice(given, given)
    id_ = str(given.get("id") or given.get("voice_id") or given["name"])
    return Voice(id_, str(given.get("name") or id_))
