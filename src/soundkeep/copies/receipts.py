"""Opens receipts: what must still go of a track that was deleted, made private or withdrawn.

A line waits for one copy, by its number, and is settled by the transaction that confirms the
removal (`dropping`) or finds that another name wants the copy (`planning`). Each function runs
inside a transaction that has taken the blob's row.
"""

from __future__ import annotations

from collections.abc import Sequence

from soundkeep.answers import Removal
from soundkeep.catalog import copies, segments, sidecars, tracks
from soundkeep.catalog.database import Tx
from soundkeep.copies import planning
from soundkeep.copies.placement import Rules, StoreRule, may_lie
from soundkeep.model import Copy, CopyState, Lane, Track, Wish


def note_deleted(tx: Tx, track: Track) -> None:
    """The receipt of a deletion: a line for each copy of the blob and each sidecar of the track.

    What was withdrawn before and is confirmed stays on it; what is pending gets its line anew."""
    tracks.forget_pending(tx, track.id)
    lines = [_line(copy) for copy in copies.of_blob(tx, track.blob.digest)]
    tracks.note_removals(tx, track.id, lines, sidecars.of_track(tx, track.blob.digest, track.id))


def replan_noting(tx: Tx, track: Track, rules: Rules, names_before: Sequence[Track]) -> None:
    """Runs placement after a track was made public or private, pushed or withdrawn, and writes a
    line for each copy and sidecar that has to go for it. Where the track may lie now its lines
    are void. By the rules as they are now."""
    before = next(name for name in names_before if name.id == track.id)
    names = [track if name.id == track.id else name for name in names_before]
    said = segments.naming(tx, track.blob.digest)
    opened = [rule.name for rule in rules.stores if may_lie(track, rule)]
    closed = [r for r in rules.stores if may_lie(before, r) and not may_lie(track, r)]
    tracks.forget_removals_in(tx, track.id, opened)
    held = copies.of_blob(tx, track.blob.digest) if closed else []
    going_already = {copy.id for copy in held if _is_going(copy)}
    planning.replan_names(
        tx,
        track.blob,
        [*names, *said],
        rules,
        lane=Lane.INTERACTIVE,
        names_before=names_before,
    )
    if not closed:
        return
    lines = [
        _line(copy)
        for copy in copies.of_blob(tx, track.blob.digest)
        for rule in closed
        if copy.store == rule.name
        and (_is_of(track, copy, rule) or (_is_going(copy) and copy.id not in going_already))
    ]
    stores = {rule.name for rule in closed}
    beside = sidecars.of_track(tx, track.blob.digest, track.id)
    tracks.note_removals(tx, track.id, lines, [each for each in beside if each.store in stores])


def _is_of(track: Track, copy: Copy, rule: StoreRule) -> bool:
    """Whether the copy lies under the track's own key, which another name may share."""
    return copy.key == str(rule.key(track.blob, track))


def _line(copy: Copy) -> tuple[str, str, int | None, Removal]:
    if _is_going(copy):
        return copy.store, copy.key, copy.id, Removal.PENDING
    return copy.store, copy.key, None, Removal.KEPT


def _is_going(copy: Copy) -> bool:
    return copy.state is CopyState.UNWANTED or copy.wish is Wish.LEAVE
