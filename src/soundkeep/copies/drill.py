"""What a rebuild would bring back, what it would not, and what the store tells besides: two
catalogs, record by record.

One is the catalog in use, the other was just made from a store; neither is changed. Figures that
rise with every listener are not compared: a sidecar has them as they were when it was written.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from soundkeep.catalog import segments, speeches, subjects
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.subjects import Record
from soundkeep.copies.sidecar_form import FIELD, sidecar_bytes
from soundkeep.copies.unread import sounds_of
from soundkeep.model import Subject, SubjectKind

PAGE = 500
REMEMBERED = 1000
FIGURES = ("hits", "last_heard_at")


@dataclass(frozen=True, slots=True)
class Loss:
    """What a rebuild would not bring back, or not as it is."""

    kind: str
    name: str
    why: str


@dataclass(slots=True)
class Comparison:
    """How many records there are by kind, and what would be lost of them."""

    compared: dict[str, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)  # the first of them
    loss_count: int = 0
    unknown: list[Subject] = field(default_factory=list)  # to the catalog in use: the first of them
    unknown_count: int = 0

    def lose(self, kind: str, name: str, why: str) -> None:
        self.loss_count += 1
        if len(self.losses) < REMEMBERED:
            self.losses.append(Loss(kind, name, why))

    def find_unknown(self, subject: Subject) -> None:
        self.unknown_count += 1
        if len(self.unknown) < REMEMBERED:
            self.unknown.append(subject)


async def compare(live: Catalog, rebuilt: Catalog) -> Comparison:
    """Everything that `live` has, looked up in `rebuilt`, and tracks and segments the other way
    round, but for those that were deleted. Raises `CatalogUnavailable`."""
    found = Comparison()
    for kind in SubjectKind:
        found.compared[f"{kind}s"] = 0
        async for page in _subjects(live, kind):
            found.compared[f"{kind}s"] += len(page)
            await _compare_page(live, rebuilt, page, found)
        async for page in _subjects(rebuilt, kind):
            known = await live.read(sounds_of, page)
            for subject in page:
                if subject not in known:
                    found.find_unknown(subject)
    await _compare_speeches(live, rebuilt, found)
    return found


async def _subjects(live: Catalog, kind: SubjectKind) -> AsyncGenerator[list[Subject], None]:
    after = ""
    while page := await live.read(subjects.page, kind, after, PAGE):
        yield page
        after = page[-1].name


async def _compare_page(
    live: Catalog, rebuilt: Catalog, page: list[Subject], found: Comparison
) -> None:
    ours = await live.read(subjects.find_all, page)
    theirs = await rebuilt.read(subjects.find_all, page)
    for subject, record in ours.items():
        other = theirs.get(subject)
        if other is None:
            found.lose(subject.kind, subject.name, "the store does not tell of it")
        elif differing := _differing(_told(record), _told(other)):
            found.lose(subject.kind, subject.name, f"the store has it with another {differing}")


async def _compare_speeches(live: Catalog, rebuilt: Catalog, found: Comparison) -> None:
    """Those that no track tells of: a speech without one is made anew of its segments."""
    found.compared["speeches"] = 0
    after = ""
    while page := await live.read(subjects.speech_keys_after, after, PAGE):
        after = page[-1]
        found.compared["speeches"] += len(page)
        there = await rebuilt.read(_remade, await live.read(_segments_of, page))
        for key in page:
            if key not in there:
                found.lose("speech", key, "no track tells of it, and not all of its segments are")


def _segments_of(tx: Tx, keys: list[str]) -> dict[str, tuple[str, ...]]:
    return {key: found.segments for key in keys if (found := speeches.find(tx, key))}


def _remade(tx: Tx, segments_of: dict[str, tuple[str, ...]]) -> set[str]:
    """Those of these speeches that are there, or can be made of segments that are."""
    return {
        key
        for key, made_of in segments_of.items()
        if speeches.find(tx, key) is not None
        or (made_of and all(segments.find(tx, each) is not None for each in made_of))
    }


def _told(record: Record) -> dict[str, Any]:
    """What a sidecar would say of it, without figures."""
    document: dict[str, Any] = json.loads(sidecar_bytes(record, "", public=False))
    ours = document.pop(FIELD)
    for each in (ours, *ours.get("speeches", ())):
        for name in FIGURES:
            each.pop(name, None)
    return {"metadata": document, **ours}


def _differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name in one if one[name] != other.get(name)))
