"""How often what was said was heard, and what that was worth: the figures of the cache.

What was paid is in the intents (`money.py`); hits and misses are added up here, once a second.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from sqlalchemy import Executable, bindparam, func, select, update

from soundkeep.catalog import money
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.money import IntentState
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import intents, now, segments, speech_hits, speeches
from soundkeep.model import Money


@dataclass(frozen=True, slots=True)
class Heard:
    """What hits and misses are counted by."""

    owner: str  # who asked
    engine: str
    model: str
    voice: str
    currency: str


@dataclass(slots=True)
class Count:
    """How often, and what that was worth."""

    hits: int = 0
    misses: int = 0
    saved_billionths: int = 0
    first_bytes: int = 0
    first_byte_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class VoiceFigures:
    """What was heard of one voice, and what it cost, in one currency."""

    engine: str
    model: str
    voice: str
    hits: int
    misses: int
    spent: Money
    saved: Money
    first_byte_seconds: float | None  # the mean


@dataclass(frozen=True, slots=True)
class Figures:
    """How the cache pays, in all and by voice, the most popular voices first."""

    voices: tuple[VoiceFigures, ...]
    calls: Mapping[IntentState, int]

    @property
    def hits(self) -> int:
        return sum(voice.hits for voice in self.voices)

    @property
    def misses(self) -> int:
        return sum(voice.misses for voice in self.voices)

    @property
    def hit_rate(self) -> float | None:
        """None as long as nobody asked."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    @property
    def unknown(self) -> int:
        """Calls of which nobody can say whether they were charged."""
        return self.calls[IntentState.UNKNOWN]

    @property
    def spent(self) -> tuple[Money, ...]:
        """What was paid, or may have been: one amount for each currency."""
        return _by_currency([voice.spent for voice in self.voices])

    @property
    def saved(self) -> tuple[Money, ...]:
        """What the hits would have cost: one amount for each currency."""
        return _by_currency([voice.saved for voice in self.voices])


# Made once: building a statement costs more than running it.
_HEARD_SEGMENT = (
    update(segments)
    .where(segments.c.key == bindparam("of_key"))
    .values(hits=segments.c.hits + bindparam("more"))
)

_HEARD_SPEECH = (
    update(speeches)
    .where(speeches.c.key == bindparam("of_key"))
    .values(hits=speeches.c.hits + bindparam("more"), last_heard_at=now())
)


def flush(
    tx: Tx,
    counts: Mapping[Heard, Count],
    segment_hits: Mapping[str, int],
    speech_hits: Mapping[str, int],
) -> None:
    """Adds what was counted in memory, in one order everywhere, so that nobody waits in a ring."""
    day = time.strftime("%Y-%m-%d", time.gmtime(tx.now()))
    rows = [
        {
            "day": day,
            "owner": heard.owner,
            "engine": heard.engine,
            "model": heard.model,
            "voice": heard.voice,
            "currency": heard.currency,
            "hits": count.hits,
            "misses": count.misses,
            "saved_billionths": count.saved_billionths,
            "first_bytes": count.first_bytes,
            "first_byte_seconds": count.first_byte_seconds,
        }
        for heard, count in counts.items()
    ]
    if rows:
        tx.run(
            _adding(tx.on_postgresql), sorted(rows, key=lambda row: tuple(map(str, row.values())))
        )
    if segment_hits:
        more = [{"of_key": key, "more": number} for key, number in sorted(segment_hits.items())]
        tx.run(_HEARD_SEGMENT, more)
    if speech_hits:
        more = [{"of_key": key, "more": number} for key, number in sorted(speech_hits.items())]
        tx.run(_HEARD_SPEECH, more)


def figures(tx: Tx, owner: str | None = None) -> Figures:
    """The statistics of one owner, or of all."""
    heard = _heard(tx, owner)
    paid = _paid(tx, owner)
    voices = [_figures_of(who, heard.get(who), paid.get(who, 0)) for who in {**heard, **paid}]
    voices.sort(key=lambda voice: (-voice.hits - voice.misses, voice.engine, voice.voice))
    return Figures(tuple(voices), money.counted(tx, owner))


_Who: TypeAlias = tuple[str, str, str, str]  # engine, model, voice, currency


def _heard(tx: Tx, owner: str | None) -> dict[_Who, AnyRow]:
    table = speech_hits.c
    who = (table.engine, table.model, table.voice, table.currency)
    sums = (table.hits, table.misses, table.saved_billionths, table.first_bytes)
    rows = select(
        *who,
        *(func.sum(column).label(column.name) for column in sums),
        func.sum(table.first_byte_seconds).label("first_byte_seconds"),
    ).group_by(*who)
    if owner is not None:
        rows = rows.where(table.owner == owner)
    return {(row.engine, row.model, row.voice, row.currency): row for row in tx.run(rows)}


def _paid(tx: Tx, owner: str | None) -> dict[_Who, int]:
    table = intents.c
    who = (table.engine, table.model, table.voice, table.currency)
    rows = select(*who, func.sum(table.cost_billionths).label("spent")).group_by(*who)
    if owner is not None:
        rows = rows.where(table.owner == owner)
    return {
        (row.engine, row.model, row.voice, row.currency): int(row.spent) for row in tx.run(rows)
    }


def _figures_of(who: _Who, row: AnyRow | None, spent_billionths: int) -> VoiceFigures:
    engine, model, voice, currency = who
    timed = row is not None and row.first_bytes
    return VoiceFigures(
        engine=engine,
        model=model,
        voice=voice,
        hits=int(row.hits) if row else 0,
        misses=int(row.misses) if row else 0,
        spent=Money(spent_billionths, currency),
        saved=Money(int(row.saved_billionths) if row else 0, currency),
        first_byte_seconds=row.first_byte_seconds / float(row.first_bytes)
        if row and timed
        else None,
    )


def _by_currency(amounts: Collection[Money]) -> tuple[Money, ...]:
    sums: dict[str, int] = {}
    for amount in amounts:
        if amount.currency:
            sums[amount.currency] = sums.get(amount.currency, 0) + amount.billionths
    return tuple(Money(billionths, currency) for currency, billionths in sorted(sums.items()))


@cache
def _adding(on_postgresql: bool) -> Executable:
    row = conflict_insert(speech_hits, on_postgresql=on_postgresql)
    numbers = ("hits", "misses", "saved_billionths", "first_bytes", "first_byte_seconds")
    sums = {name: speech_hits.c[name] + row.excluded[name] for name in numbers}
    adding: Executable = row.on_conflict_do_update(
        index_elements=list(speech_hits.primary_key.columns), set_=sums
    )
    return adding
