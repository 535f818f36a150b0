"""What every kind of store can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from soundkeep.settings.addresses import PublicUrl
from soundkeep.settings.base import Table


class StoreTable(Table):
    """What every kind of store has."""

    public: bool = False
    public_url: PublicUrl | None = None  # where the world reads it; without a slash at its end
    cache_seconds: int = Field(24 * 3600, ge=0)  # what caches are told of what lies in public
    key: str = "blobs/{digest}"
    sidecars: bool = True  # JSON beside the audio, where the kind of store can hold it
    sidecar_key: str = "tracks/{track_id}.json"
    segment_sidecar_key: str = "segments/{segment_key}.json"
    delivery: Literal["stream", "redirect"] = "stream"
    renditions: tuple[str, ...] = ()  # formats in which tracks placed here are also to be had
    max_bytes: int | None = Field(None, gt=0)
    types: tuple[str, ...] | None = None
    concurrency: int | None = Field(None, ge=1)
    scrub: Literal["read", "presence", "off"] = "read"  # how its copies are looked at now and then
    timeout_seconds: float = Field(30, gt=0)  # of one call, and between two pieces of a body

    @model_validator(mode="after")
    def _only_a_public_store_has_an_address(self) -> StoreTable:
        if self.public_url is not None and not self.public:
            raise ValueError("public_url is for a store with public = true")
        return self
