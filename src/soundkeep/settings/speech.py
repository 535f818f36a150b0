"""Who speaks, and for how much: the kinds of engine, and what is asked of all of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from soundkeep.settings.addresses import ServerUrl
from soundkeep.settings.base import PLAIN_NAME, Table
from soundkeep.settings.secrets import SecretReference

ENGINE_KINDS = ("espeak", "elevenlabs", "openai")


class _EngineTable(Table):
    """What every kind of engine has."""

    model: str | None = Field(None, min_length=1)  # who asks for none gets this
    voice: str | None = Field(None, min_length=1)  # likewise
    format: str | None = Field(None, min_length=1)  # in which segments are kept, by its own name
    concurrency: int = Field(2, ge=1)  # calls at once


class EspeakEngineSettings(_EngineTable):
    """The offline voice, in processes of this machine."""

    kind: Literal["espeak"]
    voice: str | None = Field("en-us", min_length=1)
    sentence_seconds: float = Field(20, gt=0)  # for one sentence


class _ProviderTable(_EngineTable):
    """What engines have that are asked over HTTP."""

    base_url: ServerUrl | None = None
    price: Decimal | None = Field(None, ge=0)  # of a thousand characters
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")
    connect_seconds: float = Field(5, gt=0)
    first_byte_seconds: float = Field(60, gt=0)  # a long text is thought over first
    between_bytes_seconds: float = Field(20, gt=0)
    tries: int = Field(3, ge=1, le=10)  # of what surely cost nothing
    wait_seconds: float = Field(20, ge=0)  # between them, all together
    list_seconds: float = Field(3600, gt=0)  # a list of voices or models is good for so long


class ElevenLabsEngineSettings(_ProviderTable):
    """ElevenLabs."""

    kind: Literal["elevenlabs"]
    api_key: SecretReference
    timestamps: bool = True  # ask for the times of characters with the sound


class OpenAIEngineSettings(_ProviderTable):
    """Any server that speaks OpenAI's protocol."""

    kind: Literal["openai"]
    api_key: SecretReference | None = None
    voices: tuple[str, ...] = ()  # beside those that the server lists
    models: tuple[str, ...] = ()
    max_chars: int = Field(4096, ge=1)  # of one call
    captions: bool | None = None  # whether it has Kokoro's captions; without it, it is asked


EngineSettings = Annotated[
    EspeakEngineSettings | ElevenLabsEngineSettings | OpenAIEngineSettings,
    Field(discriminator="kind"),
]


def _default_engines() -> dict[str, Any]:
    return {"offline": {"kind": "espeak"}}


class SpeechSettings(Table):
    """Who speaks, and for how much."""

    engines: dict[str, EngineSettings] = Field(
        default_factory=_default_engines, validate_default=True
    )
    engine: str | None = None  # who speaks when none is asked for: the first in the table
    voices: dict[str, str] = Field(default_factory=dict)  # who speaks for a voice that is not there
    share: Literal["all", "owner"] = "all"  # whether owners share what was said
    visibility: Literal["private", "public"] = "private"  # of the tracks that speech is put in
    at_once: int = Field(4, ge=1)  # segments of one speech
    budget: Decimal | None = Field(None, ge=0)  # of an owner and a month, in each currency
    budgets: dict[str, Decimal] = Field(default_factory=dict)  # of these owners instead
    keep_refused_days: float = Field(30, ge=0)  # takes that were refused are kept aside so long
    lease_seconds: float = Field(30, ge=1)  # a generation whose process died is free after it

    def budget_of(self, owner: str) -> Decimal | None:
        """What an owner may spend in a month; None: no limit."""
        return self.budgets.get(owner, self.budget)

    @field_validator("engines")
    @classmethod
    def _names_are_plain(cls, engines: dict[str, EngineSettings]) -> dict[str, EngineSettings]:
        for name in engines:
            if not PLAIN_NAME.match(name):
                raise ValueError(f"{name!r}: an engine's name is a-z, 0-9, - and _, up to 40")
        return engines
