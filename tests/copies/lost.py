"""A house whose catalog shall be lost, with all that its stores tell of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ledgers
from copies.bench import INBOX, LEASE_SECONDS, Bench, opened
from reading.stage import noise
from soundkeep.catalog import renditions, sidecar_work, sidecars, speeches, tracks
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import segments
from soundkeep.catalog.speeches import Speech
from soundkeep.copies import planning
from soundkeep.copies.drill import Comparison, compare
from soundkeep.copies.placement import (
    DEFAULT_LAYOUT,
    DEFAULT_SEGMENT_LAYOUT,
    DEFAULT_SIDECAR_LAYOUT,
    Layout,
    Rules,
    StoreRule,
)
from soundkeep.copies.rebuild import Rebuild, Tally
from soundkeep.digest import CHUNK_BYTES
from soundkeep.intake import recording
from soundkeep.intake.recording import Inbox
from soundkeep.model import Asked, Blob, Chore, Lane, SubjectKind, Track, Visibility
from soundkeep.speech.asked import Asked as AskedOfEngine
from soundkeep.speech.keys import canonical, segment_key
from soundkeep.stores.interface import Key
from soundkeep.testing.sources import BytesSource

BESIDE = Layout(DEFAULT_SIDECAR_LAYOUT, DEFAULT_SIDECAR_LAYOUT)
SAID = Layout(DEFAULT_SEGMENT_LAYOUT, DEFAULT_SEGMENT_LAYOUT)
PRIVATE = tuple(
    StoreRule(name, Layout(DEFAULT_LAYOUT), sidecars=BESIDE, segment_sidecars=SAID)
    for name in ("disk", "backup")
)
RULES = Rules(("disk", "backup"), PRIVATE)
SIZES = (1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1)
ASKED = AskedOfEngine("e", "m", "v", "Once, a fox.", None, 1.5, {"warmth": 0.1}, "mp3", "ann")
KEY = segment_key(ASKED)
TIMING = {"timing_source": "provider", "sentences": [], "words": [], "duration_seconds": 1.5}
TRACK, SEGMENT = SubjectKind.TRACK, SubjectKind.SEGMENT


@dataclass
class Lost:
    """A house whose catalog shall be lost, and an empty catalog in its place."""

    bench: Bench
    empty: Catalog

    @property
    def live(self) -> Catalog:
        return self.bench.stage.catalog

    def rebuild(self, store: str = "disk") -> Rebuild:
        rule = next(rule for rule in PRIVATE if rule.name == store)
        return Rebuild(self.empty, self.bench.stage.stores[store], rule, RULES)

    async def run(self, store: str = "disk") -> Tally:
        return await self.rebuild(store).run(lambda: None)

    async def compared(self) -> Comparison:
        return await compare(self.live, self.empty)

    async def edit(self, at: str, /, **ours: Any) -> None:
        """Changes what a sidecar says, as a person with an editor would."""
        disk = self.bench.stage.stores["disk"]
        document = json.loads(b"".join([piece async for piece in disk.open(at)]))
        document["soundkeep"] |= ours
        await disk.put(Key(at), BytesSource(json.dumps(document).encode()))


@asynccontextmanager
async def about_to_be_lost(folder: Path) -> AsyncIterator[Lost]:
    async with opened(folder) as bench, ledgers.opened(f"sqlite:///{folder}/new.db") as empty:
        yield Lost(bench, empty)


async def keep(lost: Lost, content: bytes, *stores: str, name: str) -> Track:
    track = await lost.bench.stage.add(content, *(stores or ("disk", "backup")), name=name)
    await lost.live.write(planning.replan_one, track.blob.digest, RULES)
    return track


async def written(lost: Lost) -> None:
    """Every sidecar that is due is written."""
    await lost.live.write(sidecars.due_now)
    for store in ("disk", "backup"):
        for claimed in await lost.live.write(
            sidecar_work.claim, Chore.WRITE_SIDECAR, store, holder="h/1/1", limit=99,
            lease_seconds=LEASE_SECONDS,
        ):  # fmt: skip
            assert await lost.bench.carry_out(Chore.WRITE_SIDECAR, store, claimed)


async def a_house(lost: Lost) -> None:
    """Tracks with all that they can have, one of them a speech of one segment, one a rendition."""
    for number, size_bytes in enumerate(SIZES):
        track = await keep(lost, noise(size_bytes, number), name=f"t{number}")
    await lost.live.write(embellish, track)
    await lost.live.write(say, track.blob)
    await lost.live.write(is_rendition_of, "t1", "t0")
    await lost.live.write(planning.replan_one, track.blob.digest, RULES)
    await written(lost)


def embellish(tx: Tx, track: Track) -> None:
    metadata = {"z": 1, "a": ["ä", None, {"b": 2.5}]}
    recording.change(
        tx, track, RULES, title="Anders", visibility=Visibility.PUBLIC, metadata=metadata
    )
    changed = tracks.find(tx, track.id)
    assert changed is not None
    asked = tracks.ask(tx, changed, "cdn", Asked.PUSHED)
    sidecars.follow(tx, track.blob.digest, track.subject, asked.revision)


def say(tx: Tx, blob: Blob) -> None:
    row = segments.insert().values(
        key=KEY, engine="e", model="m", voice="v", owner="ann", request=canonical(ASKED).decode(),
        text=ASKED.text, state="present", digest=blob.digest.raw, timing=json.dumps(TIMING),
        characters=12, cost_billionths=123_457, currency="USD", hits=3, refusals=0,
        created_at=1767225600.25, lane="b", due_at=0, attempts=0,
    )  # fmt: skip
    recording.record_speech(
        tx, blob, lambda: tx.run(row), inbox=Inbox(INBOX, "uploads/a", 60), rules=RULES,
        lane=Lane.BULK,
    )  # fmt: skip
    segment_rows.also_known_as(tx, KEY, ["an old key"])
    script = {"shown": "Once, a fox.", "segments": [[0, 12, [[0, 12]]]]}
    speeches.record(tx, Speech("whole", "mp3", (KEY,), blob.digest, script, 0))
    speeches.note_track(tx, "whole", "admin", "book", "t3")


def is_rendition_of(tx: Tx, made: str, original: str) -> None:
    renditions.want(tx, original, ["opus"], Lane.BULK)
    tx.connection.exec_driver_sql(f"UPDATE renditions SET rendition_id='{made}', chore=NULL")
