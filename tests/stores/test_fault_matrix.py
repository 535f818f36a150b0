"""Every kind of store over HTTP, every fault, every verb: right bytes, or an error of its type.

One table says for each fault which errors may come of it. All verbs run while the fault lasts, each
on an object of its own. Afterwards every object is whole (as it was, or as it was to be), and every
verb works. And a house keeps such a store beside a disk while it suffers. `make drill` runs each
verb alone, with faults at every edge of a body, and a house under every fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reading.stage import flip as flip_a_byte_at
from reading.stage import until
from servers.far_kinds import KINDS, SECRETS, Far, far_kind
from servers.fault_proxy import (
    Fault,
    answer,
    delay,
    flip,
    lie,
    refuse,
    reset,
    resize,
    silence,
    stall,
    truncate,
)
from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import copies
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import now
from soundkeep.digest import Digest
from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Throttled,
    TimedOut,
    Truncated,
    Unavailable,
    Unplayable,
)
from soundkeep.intake.recording import NewTrack
from soundkeep.keep.syncs import Wanted
from soundkeep.model import Copy, CopyState, Operation, Visibility
from soundkeep.settings import Settings
from soundkeep.stores.guarded import Guarded
from soundkeep.stores.interface import Store
from soundkeep.stores.ipfs import IpfsStore
from soundkeep.testing.expecting import listed, read
from soundkeep.worker import Worker
from sounds import wav
from stores.far_verbs import (
    BEGIN_WITHOUT,
    OTHER_LENGTH,
    READING,
    RIGHT,
    SIZE,
    SPOILT,
    VERBS,
    WITHOUT_ASKING,
    Bench,
    numbers,
)
from stores.shared import HTML, STORE_ID

PATIENT, IMPATIENT = 60.0, 0.4
ENDS_WITHIN_SECONDS = 30
SHOWN = 400  # characters of a line at most


# Google's is read by the same library as Azure's.
IN_SHORT = [
    pytest.param(kind, marks=pytest.mark.drill if kind == "google" else ()) for kind in KINDS
]


@pytest.fixture(scope="module", params=IN_SHORT)
def far(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with far_kind(request.param, request, tmp_path_factory.mktemp("secrets")) as far:
        yield far


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts of a store that makes several."""

    async def pause(seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(IpfsStore, "_pause", staticmethod(pause))


@dataclass(frozen=True)
class Row:
    """What a fault may come to: an error, as it is named, or what a verb made of it."""

    fault: Fault
    errors: tuple[type[StoreError], ...]
    harmless: bool = False  # whoever does not come to the place of the fault does its work
    but: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unmarked: dict[str, tuple[str, ...]] = field(default_factory=dict)  # in stores without a marker
    patience_seconds: float = PATIENT

    def allows(self, bench: Bench, verb: str, outcome: str) -> bool:
        if outcome in {error.__name__ for error in self.errors}:
            return True
        if outcome == RIGHT and (self.harmless or verb in WITHOUT_ASKING):
            return True
        if outcome == RIGHT and verb in READING and not bench.far.server.is_only_one:
            return True
        marked = bench.store.caps.marks
        return outcome in (
            *self.but.get(verb, ()),
            *(() if marked else self.unmarked.get(verb, ())),
        )


BROKEN = (Unavailable, Truncated)
GARBLED = (*BROKEN, Corrupt, Misconfigured)

# What nobody can tell who has no digest: `reading` finds it, as the houses below this show.
UNNOTICED_LENGTH = {"stat": (OTHER_LENGTH,), "open": (OTHER_LENGTH,)}
UNNOTICED_BYTES = {"open": (SPOILT,), "open a range": (SPOILT,)}

TABLE: dict[str, Row] = {
    "refused": Row(refuse(), (Unavailable,)),
    "timed out": Row(silence(), (TimedOut,), patience_seconds=IMPATIENT),
    "stalled": Row(stall(at=10), (TimedOut,), harmless=True, patience_seconds=IMPATIENT),
    "slow": Row(delay(0.05), (), harmless=True),
    "reset": Row(reset(at=10), BROKEN, harmless=True),
    "truncated": Row(truncate(at=10), BROKEN, harmless=True),
    "500": Row(answer(500), (Unavailable,)),
    "503": Row(answer(503, HTML, content_type="text/html"), (Unavailable,)),
    "429": Row(answer(429, retry_after="7"), (Throttled,)),
    "too short": Row(resize(-1), GARBLED, harmless=True, but=UNNOTICED_LENGTH),
    "too long": Row(resize(1), GARBLED, harmless=True, but=UNNOTICED_LENGTH),
    "flipped bit": Row(flip(at=9), GARBLED, harmless=True, but=UNNOTICED_BYTES),
    "applied, answered 500": Row(lie(500), (Unavailable,)),
    "stale 404": Row(answer(404), (Misconfigured,), unmarked={"delete": (RIGHT,)}),
    "a page for people": Row(
        answer(200, HTML, content_type="text/html"), (Misconfigured, Unavailable)
    ),
    "full": Row(answer(507), (QuotaExceeded,)),
    "401": Row(answer(401), (PermissionDenied,)),
    "403": Row(answer(403), (PermissionDenied,)),
}
LIKE_ANOTHER = {"503", "403", "reset", "too long"}  # which the drill alone tries


@pytest.mark.parametrize("fault", [fault for fault in TABLE if fault not in LIKE_ANOTHER])
async def test_every_verb_ends_right_or_with_an_error_of_its_type(far: Far, fault: str) -> None:
    await suffer(far, TABLE[fault])


@pytest.mark.drill
@pytest.mark.parametrize("at", [0, 1, 65_535, 69_999, SIZE - 1])
@pytest.mark.parametrize("fault", ["stalled", "reset", "truncated", "flipped bit"])
async def test_wherever_in_a_body_a_fault_strikes(far: Far, fault: str, at: int) -> None:
    row = TABLE[fault]
    broken = replace(row, fault=replace(row.fault, at=at))
    for verb in VERBS:
        await suffer(far, broken, [verb], once=True)
        await suffer(far, broken, [verb])


@pytest.mark.drill
@pytest.mark.parametrize("fault", TABLE)
async def test_each_verb_alone_three_times_over(far: Far, fault: str) -> None:
    for verb in VERBS:
        await suffer(far, TABLE[fault], 3 * [verb])


async def suffer(
    far: Far, row: Row, verbs: Collection[str] = tuple(VERBS), once: bool = False
) -> None:
    """The verbs at once under the fault, and all of them after it."""
    async with opened(far, row.patience_seconds) as bench:
        await asyncio.gather(*(bench.prepare(verb) for verb in set(VERBS) - BEGIN_WITHOUT))
        far.proxy.suffers(row.fault, once=once)
        try:
            async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                outcomes = await asyncio.gather(*(outcome(bench, verb) for verb in verbs))
        finally:
            far.proxy.heals()
        allowed = replace(row, harmless=True) if once else row
        wrong = [
            (verb, came)
            for verb, came in zip(verbs, outcomes, strict=True)
            if not allowed.allows(bench, verb, came)
        ]
        assert not wrong
        await check_aftermath(bench)


async def test_who_is_not_let_in_or_comes_to_no_place_hears_so_and_changes_nothing(
    far: Far,
) -> None:
    row = Row(delay(0), (PermissionDenied, Misconfigured))
    for wrong in far.wrong_tables:
        async with opened(far, PATIENT) as bench, opened(far, PATIENT, **wrong) as lost:
            await asyncio.gather(*(bench.prepare(verb) for verb in set(VERBS) - BEGIN_WITHOUT))
            lost.held = bench.held
            for verb in VERBS:
                came = await outcome(lost, verb)
                assert row.allows(bench, verb, came), (verb, came)
            for locator, data in bench.held.values():
                assert await read(bench.direct, locator) == data


async def outcome(bench: Bench, verb: str) -> str:
    try:
        return await VERBS[verb](bench, verb)
    except StoreError as error:
        check_line(str(error))
        if isinstance(error, Throttled) and not bench.far.is_by_obstore:
            heard = error.retry_after == 7
            return type(error).__name__ if heard else "nobody heard for how long"
        return type(error).__name__


def check_line(line: str) -> None:
    assert "far" in line
    assert "\n" not in line
    assert len(line) < SHOWN
    for secret in (*SECRETS.values(), "Signature=", "X-Amz-", "sig=", "<!DOCTYPE"):
        assert secret not in line


async def check_aftermath(bench: Bench) -> None:
    """Nothing is lost or half there, and the same store works again."""
    for verb, (locator, data) in bench.held.items():
        wholes = [data, bench.new.get(verb)]
        if verb == "delete" and await bench.direct.stat(locator) is None:
            continue
        assert await read(bench.direct, locator) in wholes, verb
    if bench.store.caps.lists:
        for locator in await listed(bench.direct, str(bench.key("put"))):
            if locator == str(bench.key("put")):
                assert await read(bench.direct, locator) == bench.new["put"]
    await bench.prepare("delete")
    outcomes = await asyncio.gather(*(outcome(bench, verb) for verb in VERBS))
    assert set(outcomes) == {RIGHT}, dict(zip(VERBS, outcomes, strict=True))
    assert await bench.direct.stat(bench.held["delete"][0]) is None


async def expected_id() -> str:
    return STORE_ID


@asynccontextmanager
async def opened(far: Far, timeout_seconds: float, **settings: Any) -> AsyncIterator[Bench]:
    """At its end nothing is open any more."""
    async with AsyncExitStack() as closing:
        store = far.store(timeout_seconds=timeout_seconds, **settings)
        direct = far.direct()
        closing.push_async_callback(direct.close)
        if direct.caps.marks:
            await direct.write_marker(STORE_ID)
        closing.push_async_callback(store.close)
        yield Bench(far, Guarded(store, expected_id), direct)
    if not far.is_by_obstore:
        await until(lambda: far.proxy.open == 0)


# --- a house with such a store beside a disk -----------------------------------------------------

FAST = {"probe_seconds": 0.2, "poll_seconds": 0.2, "coverage_seconds": 0.2}
SETTLES_WITHIN_SECONDS = 30
DAY = 86_400.0
SUFFERS_SECONDS = 1.0
SHORT_FORM = {  # one fault for each kind
    "s3": "stale 404",
    "supabase": "applied, answered 500",
    "turso": "timed out",
    "azure": "flipped bit",
    "google": "too short",
    "kubo": "500",
    "pinata": "truncated",
    "pinata before v3": "stale 404",
    "pinning service": "applied, answered 500",
}


@dataclass
class Scene:
    """A house, what lies in its disk, and the sounds that it must never lose."""

    house: House
    worker: Worker
    disk: Path
    direct: Store
    sounds: dict[str, bytes] = field(default_factory=dict)  # by the track's id

    async def add(self) -> str:
        """A sound of its own; answers the track's id."""
        sound = wav(SIZE, seed=next(numbers))
        new = NewTrack(visibility=Visibility.PUBLIC)
        added = await self.house.keep.add(_body(sound), new)
        self.sounds[added.track.id] = sound
        return added.track.id

    async def copy(self, track_id: str, store: str) -> Copy | None:
        blob = (await self.house.keep.track(track_id)).track.blob
        every = await self.house.keep.catalog.read(copies.of_blob, blob.digest)
        return next((copy for copy in every if copy.store == store), None)

    async def doubt(self, track_id: str, store: str) -> None:
        copy = await self.copy(track_id, store)
        assert copy is not None
        assert await self.house.keep.catalog.write(copies.doubt, copy.id, "for a test")

    def file(self, track_id: str) -> Path:
        return self.disk / "blobs" / Digest.of(self.sounds[track_id]).hex

    async def heard(self, track_id: str) -> bytes | None:
        """None if no good copy can be reached now."""
        blob = (await self.house.keep.track(track_id)).track.blob
        try:
            async with aclosing(self.house.keep.open(blob)) as pieces:
                return b"".join([piece async for piece in pieces])
        except Unplayable:
            return None

    async def works(self, seconds: float) -> None:
        """Lets the worker do what is due."""
        await self.house.keep.retry()
        await self.worker.settle(seconds)

    async def age(self) -> None:
        """What was proven of the far copies was too long ago for the copy law."""
        old = (
            copies_table.update()
            .where(copies_table.c.store == "far")
            .values(verified_at=now() - 3 * DAY)
        )
        await self.house.keep.catalog.write(lambda tx: tx.run(old))

    async def settles(self) -> None:
        """Once nothing is wrong any more, all is as it should be, without anybody's help."""
        async with asyncio.timeout(SETTLES_WITHIN_SECONDS):
            while not await self._is_settled():
                await self.works(5)
                await asyncio.sleep(0.05)

    async def _is_settled(self) -> bool:
        checked = await self.house.keep.check()
        going = any(
            store.leaving or store.states.get(CopyState.UNWANTED)
            for store in checked.coverage.stores
            if not copies.is_inbox(store.store)  # which is swept in its own time
        )
        return checked.passed and not going

    async def is_kept(self, track_id: str) -> bool:
        """Some store really has it, whatever the ledger says."""
        sound, far = self.sounds[track_id], await self.copy(track_id, "far")
        file = self.file(track_id)
        if file.exists() and file.read_bytes() == sound:
            return True
        return far is not None and await read(self.direct, far.locator or far.key) == sound


async def test_a_house_says_what_is_true_and_loses_nothing(far: Far, tmp_path: Path) -> None:
    await suffer_in_a_house(far, TABLE[SHORT_FORM[far.kind]].fault, tmp_path)


@pytest.mark.drill
@pytest.mark.parametrize("fault", TABLE)
async def test_a_house_loses_nothing_by_any_fault(far: Far, fault: str, tmp_path: Path) -> None:
    await suffer_in_a_house(far, TABLE[fault].fault, tmp_path)


async def suffer_in_a_house(far: Far, fault: Fault, data: Path) -> None:
    """An upload, a copy, a drop and two repairs go on while the store suffers."""
    async with living(far, data) as scene:
        leaving, doubted, dented, removed = [await scene.add() for _ in range(4)]
        await scene.settles()
        await scene.age()
        far.proxy.suffers(fault)
        try:
            await scene.house.keep.sync(Wanted(Operation.DELETE, "disk", track_ids=(leaving,)))
            await scene.doubt(doubted, "far")
            flip_a_byte_at(scene.file(dented), 70_000)
            await scene.doubt(dented, "disk")
            gone = await scene.copy(removed, "far")
            await scene.house.keep.remove(removed)
            del scene.sounds[removed]
            await scene.add()
            await scene.works(SUFFERS_SECONDS)
            for track_id, sound in scene.sounds.items():
                assert await scene.heard(track_id) in (sound, None), "nobody hears a wrong byte"
                assert await scene.is_kept(track_id)
            assert await scene.heard(doubted) == scene.sounds[doubted], "the disk is well"
        finally:
            far.proxy.heals()
        await scene.settles()
        for track_id, sound in scene.sounds.items():
            assert await scene.heard(track_id) == sound
            copy = await scene.copy(track_id, "far")
            assert copy is not None
            assert copy.state is CopyState.PRESENT
            assert await read(scene.direct, copy.locator or copy.key) == sound
            assert scene.file(track_id).exists() == (track_id != leaving)
            if track_id != leaving:
                assert scene.file(track_id).read_bytes() == sound
        assert gone is not None
        assert await scene.direct.stat(gone.locator or gone.key) is None


@asynccontextmanager
async def living(far: Far, data: Path) -> AsyncIterator[Scene]:
    """A new house each time, and its marker in the store."""
    table = far.table | {"timeout_seconds": 1.0, "concurrency": 2}
    stores = {"disk": {"kind": "local", "path": "disk"}, "far": table}
    is_public = table["kind"] == "ipfs"  # where only what is public goes, and that by itself
    settings = Settings(
        data=data,
        stores=stores,
        policy={"keep": ("disk",) if is_public else ("disk", "far")},
        worker=FAST,
        reading={"stall_seconds": 0.5},
        inbox={"linger_seconds": 0},
    )
    direct = far.direct()
    async with AsyncExitStack() as closing:
        closing.push_async_callback(direct.close)
        await far.unmark()
        house = await closing.enter_async_context(build.opened(settings))
        worker = Worker(house, resident=False)
        worker.start()
        closing.push_async_callback(worker.stop, 5)
        yield Scene(house, worker, data / "disk", direct)


async def _body(sound: bytes) -> AsyncIterator[bytes]:
    yield sound
