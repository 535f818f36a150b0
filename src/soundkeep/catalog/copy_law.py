"""The copy law: the one transaction that may let a copy of a wanted blob go."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, exists, or_, select

from soundkeep.catalog import blobs as blob_rows
from soundkeep.catalog import claims
from soundkeep.catalog.copies import is_inbox, of_blob
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import SPEECH, copies, now, tracks
from soundkeep.digest import Digest
from soundkeep.model import Chore, Copy, CopyState


@dataclass(frozen=True, slots=True)
class Law:
    """What the copy law asks for. `stores` are those configured now, without any inbox."""

    stores: frozenset[str]
    min_copies: int
    proof_age: float  # seconds


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a copy was let go, and if not, which copies could be proven to allow it."""

    let_go: bool
    proven: int = 0
    unproven: tuple[Copy, ...] = ()


_IS_NAMED = select(
    or_(*(exists().where(table.c.digest == bindparam("raw")) for table in (tracks, *SPEECH)))
)


def let_go(tx: Tx, claimed: Claimed, law: Law) -> Verdict:
    """The copy law: the only door through which a copy of a wanted blob leaves.

    Takes the blob's row, counts the distinct stores (never an inbox) that have another copy
    which is present and was proven within `law.proof_age`, and marks this one unwanted if there
    are at least `law.min_copies`; only then may its bytes be removed. Raises `LeaseLost`.
    """
    copy = claimed.copy
    blob_rows.take(tx, copy.digest)
    others = [
        other
        for other in of_blob(tx, copy.digest)
        if other.store != copy.store
        and other.store in law.stores
        and not is_inbox(other.store)
        and other.state is CopyState.PRESENT
    ]
    horizon = tx.now() - law.proof_age
    proven = [other for other in others if (other.verified_at or 0.0) >= horizon]
    count = len({other.store for other in proven})
    holds_bytes = copy.state is not CopyState.WANTED
    if count < law.min_copies and holds_bytes and is_named(tx, copy.digest):
        unproven = tuple(other for other in others if other not in proven)
        return Verdict(let_go=False, proven=count, unproven=unproven)
    claims.finish(
        tx, copies, claimed.lease, state=CopyState.UNWANTED, since=now(), chore=Chore.DROP,
        due_at=now(),
    )  # fmt: skip
    tx.wakes = True
    return Verdict(let_go=True, proven=count)


def is_named(tx: Tx, digest: Digest) -> bool:
    """Whether the blob is wanted: a track names it, or speech."""
    return bool(tx.run(_IS_NAMED, {"raw": digest.raw}).scalar_one())
