"""Who speaks a request, with what, in which pieces: all that is left open is decided here.

The choice is made before any money is spent, and the keys are made of it: the same request under
the same settings is the same speech.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from soundkeep.errors import BadSpeech, EngineError, EngineRefused, EngineUnavailable, UnknownModel
from soundkeep.settings.speech import SpeechSettings
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.interface import Engine, Model
from soundkeep.speech.keys import segment_key, speech_key
from soundkeep.speech.outputs import Output, output_of
from soundkeep.speech.request import SpeechRequest
from soundkeep.speech.script import Script
from soundkeep.speech.segments import Segment

CAREFUL_CHARS = 5000  # at once, of a model whose limit cannot be asked for


@dataclass(frozen=True)
class Chosen:
    """A request with nothing left open."""

    request: SpeechRequest
    engine: Engine
    model: str
    voice: str
    output: Output
    segments: tuple[Segment, ...]
    asked: tuple[Asked, ...]  # what the engine is asked for each

    @cached_property
    def segment_keys(self) -> tuple[str, ...]:
        """The names of its segments, in order; what is said twice stands there twice."""
        return tuple(segment_key(asked) for asked in self.asked)

    @cached_property
    def key(self) -> str:
        """The name of the speech."""
        return speech_key(self.segment_keys, self.output.name)

    @cached_property
    def script(self) -> Script:
        """The text as it was sent, and where its segments lie."""
        return Script(self.request.shown, self.request.normalised, self.segments)

    @property
    def is_one_take(self) -> bool:
        """Whether what the engine speaks is the speech, byte for byte."""
        return len(self.asked) == 1 and self.output.passes_through


class Chooser:
    """Decides by the settings."""

    def __init__(self, engines: Mapping[str, Engine], settings: SpeechSettings) -> None:
        self._engines = engines
        self._settings = settings

    async def choose(self, request: SpeechRequest) -> Chosen:
        """Raises `BadSpeech`, `UnknownModel`, `UnknownFormat`, and `EngineError` where an engine
        has to be asked what it has. Voices are checked when something is to be spoken."""
        engine = self._engine(request.engine)
        model = await self._model(engine, request.model)
        voice = await self._voice(engine, request.voice)
        segments = tuple(request.segments(model.max_chars))
        return Chosen(
            request=request,
            engine=engine,
            model=model.id,
            voice=voice,
            output=output_of(request.format, engine.caps.master),
            segments=segments,
            asked=tuple(
                request.asked(
                    segment,
                    engine=engine.name,
                    model=model.id,
                    voice=voice,
                    master=engine.caps.master.name,
                    shared=self._settings.share == "all",
                )
                for segment in segments
            ),
        )

    def engines_of(self, name: str | None) -> list[Engine]:
        """The engine of that name, or all of them. Raises `BadSpeech`, `EngineUnavailable`."""
        return [self._engine(name)] if name else list(self._engines.values())

    async def named(self, name: str | None) -> tuple[str, str | None]:
        """The engine and the model that a gateway's `model` means: an engine's model, `engine`, or
        `engine/model`. The default engine serves the rest, with its own model."""
        default = self._engine(None)
        if name is None:
            return default.name, None
        head, _, tail = name.partition("/")
        if head in self._engines:
            return head, tail or None
        for engine in (default, *self._engines.values()):
            if any(model.id == name for model in await engine.models()):
                return engine.name, name
        return default.name, None

    def _engine(self, name: str | None) -> Engine:
        wanted = name or self._settings.engine or next(iter(self._engines), None)
        engine = self._engines.get(wanted) if wanted else None
        if not self._engines:
            raise EngineUnavailable("there is no engine: [speech.engines] in the settings is empty")
        if engine is None:
            raise BadSpeech(f"there is no engine {wanted!r}; there are {', '.join(self._engines)}")
        return engine

    async def _model(self, engine: Engine, name: str | None) -> Model:
        """What was said before must be found again also while the provider is out."""
        try:
            models = await engine.models()
        except EngineRefused:
            raise
        except EngineError:
            table = self._settings.engines.get(engine.name)
            wanted = name or (table.model if table else None)
            if wanted is None:
                raise
            return Model(wanted, wanted, CAREFUL_CHARS)
        if not models:
            raise UnknownModel(f"the engine {engine.name!r} lists no model")
        if name is None:
            return models[0]
        for model in models:
            if model.id == name:
                return model
        listed = ", ".join(model.id for model in models[:10])
        raise UnknownModel(f"the engine {engine.name!r} has no model {name!r}; it has {listed}")

    async def _voice(self, engine: Engine, name: str | None) -> str:
        """The engine's own voice of that name goes before one that the settings name so."""
        if name is None:
            return self._usual_voice(engine.name)
        other = self._settings.voices.get(name)
        return name if other is None or await self._lists(engine, name) else other

    async def _lists(self, engine: Engine, voice: str) -> bool:
        try:
            return any(each.id == voice for each in await engine.voices())
        except EngineError:
            return False  # what was said before must be found again also while it is out

    def _usual_voice(self, engine: str) -> str:
        table = self._settings.engines.get(engine)
        if table is None or table.voice is None:
            raise BadSpeech(f"a voice is needed, or speech.engines.{engine}.voice in the settings")
        return table.voice
