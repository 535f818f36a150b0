"""How the house itself runs: its server, policy, inbox, limits, worker, scrub and reading."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from soundkeep.settings.base import MIB, Table

AUDIO_TYPES = ("mp3", "wav", "flac", "ogg", "opus", "aac", "m4a", "webm")


class HttpSettings(Table):
    """How the server is reached."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    base_url: str | None = None  # for absolute URLs behind a proxy; else made from the request
    cors_origins: tuple[str, ...] = ("*",)
    drain_seconds: float = Field(20, ge=0)  # how long running streams may finish after SIGTERM
    idle_seconds: float = Field(30, gt=0)  # an upload that sends nothing for so long is ended


class PolicySettings(Table):
    """Where blobs end up and when they count as kept."""

    keep: tuple[str, ...] = ("disk", "backup")
    ack_copies: int = Field(1, ge=0)
    ack_seconds: float = Field(10, gt=0)
    min_copies: int = Field(1, ge=1)
    proof_age: float = Field(24 * 3600, gt=0)  # seconds a proof of a copy is good for, in the law


class InboxSettings(Table):
    """The directory where bytes land first."""

    path: Path = Path("inbox")
    linger_seconds: float = Field(3600, ge=0)  # kept so long after every placed copy is present
    sweep_seconds: float = Field(300, gt=0)
    max_bytes: int | None = None  # beyond this the inbox is swept early, by the law
    min_free_bytes: int = 64 * MIB  # of the disk; below it uploads are refused, not half-written


class LimitsSettings(Table):
    """What is taken in."""

    file_bytes: int = Field(50 * MIB, gt=0)
    types: tuple[str, ...] = AUDIO_TYPES
    uploads: int = Field(32, ge=1)  # at once
    decoders: int = Field(2, ge=1)  # processes of the jail
    decode_seconds: float = Field(20, gt=0)  # of one file, in the jail
    decode_bytes: int = Field(1024 * MIB, gt=0)  # memory of the jail

    @model_validator(mode="after")
    def _types_are_known(self) -> LimitsSettings:
        unknown = sorted(set(self.types) - set(AUDIO_TYPES))
        if unknown:
            raise ValueError(f"unknown audio types {unknown}; known are {', '.join(AUDIO_TYPES)}")
        return self


class WorkerSettings(Table):
    """How the ledger is worked off."""

    concurrency: int = Field(8, ge=1)  # of one chore in one store
    lease_seconds: float = Field(60, ge=1)
    poll_seconds: float = Field(2, gt=0)  # the floor under wake-ups
    probe_seconds: float = Field(5, gt=0)  # between probes of a store whose circuit is open
    coverage_seconds: float = Field(5, gt=0)  # between counts for `status`


class ScrubSettings(Table):
    """How often what is kept is looked at."""

    period: float = Field(30 * 86_400, gt=0)  # seconds: no proof of a copy gets older than that
    bytes_per_day: int | None = Field(100_000_000_000, gt=0)  # read for it, by all processes


class ReadingSettings(Table):
    """How bytes are read out."""

    cache_bytes: int = Field(64 * MIB, ge=0)  # verified chunks of slow stores, in memory
    hot_bytes: int = Field(64 * MIB, ge=0)  # ranges of local files that everybody wants just now
    trust_seconds: float = Field(3600, ge=0)  # a verified local chunk, while its file is unchanged
    hedge_seconds: float = Field(0.25, gt=0)  # until a store's own pace is known
    stall_seconds: float = Field(10, gt=0)  # then the copy is given up
