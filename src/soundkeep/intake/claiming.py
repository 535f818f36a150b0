"""What a foreign table says of a track's copies: none of it is believed, and all is looked at.

Each claimed copy enters as `doubted`, once the track's digest is known: the worker re-reads it, and
writes it if nothing is there. If another sound is, the claim is not true: that sound stays, and the
copy says so. Its key is the one in the table's address, where that lies under the store's
`public_url`, else the one that the store's layout gives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from soundkeep.catalog import blobs, copies, sidecars, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.copies import planning, syncing
from soundkeep.copies.placement import Rules, StoreRule
from soundkeep.errors import Conflict, NoSuchTrack
from soundkeep.model import Lane, Track
from soundkeep.stores.interface import Key, Spelling

WHY = "claimed by a table; nobody has looked yet"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a table's names of stores mean, and where the world reads those stores."""

    stores: Mapping[str, str]  # theirs to ours
    public_urls: Mapping[str, str | None]  # by our names
    spellings: Mapping[str, Spelling]  # likewise

    def named(self, said: Mapping[str, object]) -> list[str]:
        """Our stores of which a line says that they have the track."""
        return [ours for theirs, ours in self.stores.items() if said.get(theirs) is True]


def claim(
    tx: Tx,
    track_id: str,
    said: Collection[str],
    urls: Collection[str],
    claims: Claims,
    rules: Rules,
) -> None:
    """Enters what is said of a track's copies in these stores. Raises `Conflict`, `BadPath`."""
    track = tracks.find(tx, track_id)
    if track is None or blobs.take(tx, track.blob.digest) is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    enter(tx, track, planning.as_of(tx, rules), said, urls, claims)


def enter(
    tx: Tx,
    track: Track,
    rules: Rules,
    said: Collection[str],
    urls: Collection[str],
    claims: Claims,
) -> Track:
    """The same of a track whose blob's row is taken, by the rules as they are now: in the very
    transaction that records it, or somebody may have written there before."""
    for rule in rules.stores:
        if rule.name in said:
            track = _claim_in(tx, track, rule, urls, claims, rules)
    return track


def _claim_in(
    tx: Tx, track: Track, rule: StoreRule, urls: Collection[str], claims: Claims, rules: Rules
) -> Track:
    refusal = syncing.refusal_to_push(track, rule, rules.drained)
    if refusal is not None:
        raise refusal
    locator = _locator(rule, urls, claims)
    digest, key = track.blob.digest, _key(track, rule, locator, claims)
    held = {(copy.store, copy.key) for copy in copies.of_blob(tx, digest)}
    is_new = (rule.name, key) not in held
    if is_new and not copies.unknown_keys(tx, rule.name, [key]):
        raise Conflict(f"the catalog has another sound at {key} in {rule.name}")
    copies.claim_to_be_there(tx, digest, Place(rule.name, key), locator, WHY)
    if track.own_keys.get(rule.name) == key:
        return track
    names_before = tracks.naming(tx, digest)
    track = tracks.lies_at(tx, track, rule.name, key)
    sidecars.follow(tx, digest, track.subject, track.revision)
    planning.replan(tx, track.blob, rules, lane=Lane.BULK, names_before=names_before)
    return track


def _locator(rule: StoreRule, urls: Collection[str], claims: Claims) -> str | None:
    """What the store calls it, by an address of the table."""
    public_url = claims.public_urls.get(rule.name)
    for url in urls if public_url else ():
        if url.startswith(f"{public_url}/"):
            return unquote(url.removeprefix(f"{public_url}/").partition("?")[0])
    return None


def _key(track: Track, rule: StoreRule, locator: str | None, claims: Claims) -> str:
    """Raises `BadPath`."""
    if locator is None:
        return str(rule.key(track.blob, track))
    key = claims.spellings[rule.name].key_of(locator)
    return str(Key(locator if key is None else key))
