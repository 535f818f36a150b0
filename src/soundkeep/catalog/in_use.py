"""Which inboxes are in use: each process that has one says so now and then, and when it ends.

The signs are told apart by process, so that one that ends does not speak for the others of its
host. One that died leaves its sign behind: it grows old, and the next process of that host takes
it away.
"""

from __future__ import annotations

from soundkeep.catalog import claims, facts
from soundkeep.catalog.database import Tx


def note(tx: Tx, inbox: str, holder: str) -> None:
    """This process (`claims.holder_name`) has the inbox in use now."""
    facts.write(tx, _by(inbox, holder), holder)


def note_end(tx: Tx, inbox: str, holder: str) -> None:
    """It has it no more."""
    facts.forget(tx, _by(inbox, holder))


def begin(tx: Tx, inbox: str, holder: str) -> None:
    """As `note`; takes away what processes of this host left that are no more. The inbox is this
    host's."""
    for other in facts.values(tx, _by(inbox)):
        if not claims.is_alive(other):
            note_end(tx, inbox, other)
    note(tx, inbox, holder)


def forget_all(tx: Tx, inbox: str) -> None:
    """Takes away every sign, of an inbox that is no more."""
    facts.forget_all(tx, _by(inbox))


def seconds_since(tx: Tx, inbox: str) -> float | None:
    """How long ago a process that has not ended said last that it uses the inbox, if one did."""
    return facts.least_age_seconds(tx, _by(inbox))


def _by(inbox: str, holder: str = "") -> str:
    return f"in use: {inbox} by {holder}"
