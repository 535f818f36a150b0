"""Every kind of store over HTTP, every fault, every verb: right bytes, or an error of its type.

One table says for each fault which errors may come of it. All verbs run while the fault lasts, each
on an object of its own. Afterwards every object is whole (as it was, or as it was to be), and every
verb works. `make drill` runs each verb alone, with faults at every edge of a body.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

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
)
from soundkeep.stores.guarded import Guarded
from soundkeep.stores.interface import Key, Store
from soundkeep.stores.ipfs import IpfsStore
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import listed, read

STORE_ID = "the-store-of-this-test"
SIZE = 150_000
PATIENT, IMPATIENT = 60.0, 0.4
ENDS_WITHIN_SECONDS = 30
SHOWN = 400  # characters of a line at most
HTML = b"<!DOCTYPE html><title>Log in to this network</title>"

RIGHT, ABSENT, SPOILT, OTHER_LENGTH = "right", "absent", "other bytes", "other length"
numbers = itertools.count()


def noise() -> bytes:
    return random.Random(next(numbers)).randbytes(SIZE)


@pytest.fixture(scope="module", params=KINDS)
def far(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with far_kind(request.param, request, tmp_path_factory.mktemp("secrets")) as far:
        yield far


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts of a store that makes several."""

    async def pause(seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(IpfsStore, "_pause", staticmethod(pause))


@dataclass
class Bench:
    """A store, and past all faults the same one, where each verb has an object of its own."""

    far: Far
    store: Store
    direct: Store
    held: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # locator and bytes
    new: dict[str, bytes] = field(default_factory=dict)  # what a verb was to put
    locators: dict[str, str] = field(default_factory=dict)  # where it was said to have put it
    prefix: str = field(default_factory=lambda: f"blobs/{next(numbers)}/")

    def key(self, verb: str) -> Key:
        return Key(f"{self.prefix}{verb.replace(' ', '-')}")

    async def prepare(self, verb: str) -> None:
        data = noise()
        receipt = await self.direct.put(self.key(verb), BytesSource(data))
        self.held[verb] = receipt.locator, data

    async def put(self, verb: str) -> str:
        data = self.new[verb] = noise()
        receipt = await self.store.put(self.key(verb), BytesSource(data))
        self.locators[verb] = receipt.locator
        return RIGHT if await read(self.direct, receipt.locator) == data else SPOILT


# --- the verbs -----------------------------------------------------------------------------------

Verb = Callable[[Bench, str], Awaitable[str]]


async def probe(bench: Bench, verb: str) -> str:
    await bench.store.probe()
    return RIGHT


async def read_marker(bench: Bench, verb: str) -> str:
    if not bench.store.caps.marks:
        return RIGHT
    found = await bench.store.read_marker()
    return RIGHT if found == STORE_ID else ABSENT if found is None else SPOILT


async def write_marker(bench: Bench, verb: str) -> str:
    if bench.store.caps.marks:
        await bench.store.write_marker(STORE_ID)
    return RIGHT


async def put(bench: Bench, verb: str) -> str:
    return await bench.put(verb)


async def stat(bench: Bench, verb: str) -> str:
    locator, data = bench.held[verb]
    found = await bench.store.stat(locator)
    if found is None:
        return ABSENT
    return RIGHT if found.size_bytes == len(data) else OTHER_LENGTH


async def open_whole(bench: Bench, verb: str) -> str:
    locator, data = bench.held[verb]
    return _compared(await read(bench.store, locator), data)


async def open_range(bench: Bench, verb: str) -> str:
    locator, data = bench.held[verb]
    return _compared(await read(bench.store, locator, 70_000, 140_001), data[70_000:140_001])


async def delete(bench: Bench, verb: str) -> str:
    await bench.store.delete(bench.held[verb][0])
    return RIGHT


async def list_all(bench: Bench, verb: str) -> str:
    if not bench.store.caps.lists:
        return RIGHT
    locator = bench.held[verb][0]
    found = await listed(bench.store, locator)
    return RIGHT if found == [locator] else ABSENT if not found else SPOILT


async def sign(bench: Bench, verb: str) -> str:
    url = await bench.store.sign(bench.held[verb][0], timedelta(minutes=1))
    return RIGHT if (url is not None) == bench.store.caps.signs else ABSENT


async def reap(bench: Bench, verb: str) -> str:
    return RIGHT if await bench.store.reap(timedelta(days=1)) == 0 else SPOILT


def _compared(came: bytes, data: bytes) -> str:
    if came == data:
        return RIGHT
    return SPOILT if len(came) == len(data) else OTHER_LENGTH


VERBS: dict[str, Verb] = {
    "probe": probe,
    "read marker": read_marker,
    "write marker": write_marker,
    "put": put,
    "put in place": put,
    "stat": stat,
    "open": open_whole,
    "open a range": open_range,
    "delete": delete,
    "list": list_all,
    "sign": sign,
    "reap": reap,
}
BEGIN_WITHOUT = {"probe", "read marker", "write marker", "put", "reap"}
WITHOUT_ASKING = {"read marker", "write marker", "list", "sign", "reap"}  # in some kinds
READING = {"stat", "open", "open a range"}


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


@pytest.mark.parametrize("fault", TABLE)
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
