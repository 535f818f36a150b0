"""Where listeners elsewhere read a track: its own copies in public stores, and those that can be
signed for.

Pure functions of the track, its copies and the settings. A track's own copy lies under the key
that its name makes: what another name of the same bytes has there would tell that name. It counts
while it is present and placed, so what is withdrawn or made private is forgotten at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from soundkeep.answers import PublicCopy
from soundkeep.copies.placement import Rules, StoreRule, may_lie
from soundkeep.model import Copy, CopyState, Sidecar, Track, Wish
from soundkeep.settings import Settings


@dataclass(frozen=True, slots=True)
class Front:
    """A store as listeners elsewhere see it."""

    rule: StoreRule
    public_url: str | None
    cache_seconds: int
    redirects: bool  # listeners of ours are sent there

    @property
    def name(self) -> str:
        return self.rule.name

    def own_copy(self, track: Track, copies: Iterable[Copy]) -> Copy | None:
        """The track's own present copy in this store."""
        if not may_lie(track, self.rule):
            return None
        key = str(self.rule.key(track.blob, track))
        return next((c for c in copies if c.store == self.name and c.key == key and _is(c)), None)

    def url(self, copy: Copy) -> str | None:
        """Where the world reads a copy here; None if it cannot."""
        return self._url_of(copy.locator or copy.key)

    def sidecar_url(self, track: Track, sidecars: Iterable[Sidecar]) -> str | None:
        """Where the world reads the JSON beside the audio; None until it lies there."""
        key = self.rule.sidecar_key(track)
        here = (each for each in sidecars if each.store == self.name and each.key == str(key))
        sidecar = next((each for each in here if each.track_id == track.id), None)
        if sidecar is None or sidecar.revision is None or sidecar.wish is not Wish.KEEP:
            return None
        return self._url_of(sidecar.locator or sidecar.key)

    def _url_of(self, locator: str) -> str | None:
        return None if self.public_url is None else f"{self.public_url}/{quote(locator)}"


@dataclass(frozen=True, slots=True)
class Fronts:
    """Every store of the settings, in their order."""

    every: tuple[Front, ...]

    @classmethod
    def of(cls, settings: Settings, rules: Rules) -> Fronts:
        tables = settings.stores
        return cls(
            tuple(
                Front(
                    rule,
                    tables[rule.name].public_url,
                    tables[rule.name].cache_seconds,
                    tables[rule.name].delivery == "redirect",
                )
                for rule in rules.stores
            )
        )

    @property
    def redirecting(self) -> tuple[Front, ...]:
        """The stores that listeners are sent to."""
        return tuple(front for front in self.every if front.redirects)

    @property
    def cache_seconds(self) -> dict[str, int]:
        """By public store, how long caches may keep what lies there."""
        return {front.name: front.cache_seconds for front in self.every if front.rule.public}

    def published(
        self, track: Track, copies: Sequence[Copy], sidecars: Sequence[Sidecar]
    ) -> tuple[PublicCopy, ...]:
        """Where the world reads the track, in the order of the settings. (Of the sidecars, those
        of other tracks with the same sound do not matter.)"""
        return tuple(self._published(track, copies, sidecars))

    def _published(
        self, track: Track, copies: Sequence[Copy], sidecars: Sequence[Sidecar]
    ) -> Iterator[PublicCopy]:
        for front in self.every:
            copy = front.own_copy(track, copies) if front.public_url else None
            if copy is not None and (url := front.url(copy)):
                since = max(copy.since, track.created_at)
                yield PublicCopy(front.name, url, front.sidecar_url(track, sidecars), since)


def _is(copy: Copy) -> bool:
    """Whether it is there to be read: what is leaving is not, though its bytes still are."""
    return copy.state is CopyState.PRESENT and copy.wish is Wish.KEEP
