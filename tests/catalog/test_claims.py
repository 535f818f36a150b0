"""The claim: who may act on a row, for how long, and what happens when that time is over."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from ledgers import add_track, make_blob, make_track, opened, want
from soundkeep.catalog import claims, copies, copy_work
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Catalog, Tx, conflict_insert
from soundkeep.catalog.schema import copies as table
from soundkeep.catalog.schema import now, speech_keys
from soundkeep.errors import LeaseLost, Unavailable
from soundkeep.model import Chore, CopyState, Lane

LEASE = 60.0


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


async def wanted(catalog: Catalog, number: int, *stores: str) -> None:
    """Wants `number` different blobs in each store."""

    def write(tx: Tx) -> None:
        for index in range(number):
            blob = make_blob(b"blob %d" % index)
            add_track(tx, make_track(f"track-{index}", blob))
            want(tx, blob, *stores)

    await catalog.write(write)


async def claim(
    catalog: Catalog, limit: int = 10, *, store: str = "disk", lease_seconds: float = LEASE
) -> list[Claimed]:
    return await catalog.write(
        copy_work.claim,
        Chore.COPY,
        store,
        holder="host/1/1",
        limit=limit,
        lease_seconds=lease_seconds,
    )


async def end_leases(catalog: Catalog) -> None:
    """What the passing of time does to a lease that nobody renews."""
    await catalog.write(lambda tx: tx.run(update(table).values(due_at=now() - 1)))


def prove(tx: Tx, claimed: Claimed) -> None:
    copy_work.prove(tx, claimed, locator="there", verified="read back")


async def test_the_clock_is_the_databases_and_never_null(catalog: Catalog) -> None:
    first = await catalog.read(lambda tx: tx.now())
    second = await catalog.read(lambda tx: tx.now())
    assert 1.7e9 < first <= second < 1e10


@pytest.mark.parametrize("number", [1, 3])
async def test_who_wants_a_copy_wakes_whoever_makes_it_and_who_wants_it_again_does_not(
    catalog: Catalog, number: int
) -> None:
    blob = make_blob(b"one")
    await catalog.write(lambda tx: add_track(tx, make_track("one", blob)))
    woken: list[bool] = []
    catalog.on_commit.append(lambda: woken.append(True))
    places = {Place("disk", f"key {index}") for index in range(number)}
    await catalog.write(copies.want, blob.digest, places, Lane.BULK)
    assert len(await catalog.read(copies.of_blob, blob.digest)) == number
    assert woken == [True]
    await catalog.write(copies.want, blob.digest, places, Lane.BULK)
    assert len(await catalog.read(copies.of_blob, blob.digest)) == number
    assert woken == [True]


async def test_an_insert_counts_what_it_wrote(catalog: Catalog) -> None:
    """`rowcount` of an INSERT was -1 on PostgreSQL, and nobody noticed."""

    def name(tx: Tx, others: list[str]) -> int:
        adding = conflict_insert(speech_keys, on_postgresql=tx.on_postgresql)
        rows = [{"other_key": other, "speech_key": "key"} for other in others]
        return tx.run(adding.on_conflict_do_nothing(), rows).rowcount

    assert await catalog.write(name, ["a"]) == 1
    assert await catalog.write(name, ["a", "b", "c"]) == 2
    assert await catalog.write(name, ["a", "b", "c"]) == 0


async def test_a_row_is_claimed_once_by_many_who_want_it(catalog: Catalog) -> None:
    await wanted(catalog, 40, "disk")
    taken = await asyncio.gather(*(claim(catalog, 7) for _ in range(12)))
    ids = [claimed.copy.id for batch in taken for claimed in batch]
    assert len(ids) == len(set(ids)) == 40


async def test_a_claim_is_for_one_store_only(catalog: Catalog) -> None:
    await wanted(catalog, 3, "disk", "backup")
    assert {claimed.copy.store for claimed in await claim(catalog, store="backup")} == {"backup"}
    assert len(await claim(catalog, store="disk")) == 3


async def test_interactive_work_is_claimed_before_bulk_work(catalog: Catalog) -> None:
    await wanted(catalog, 6, "disk")
    bulk = update(table).where(table.c.id <= 3).values(lane=Lane.BULK.value, due_at=now() - 100)
    await catalog.write(lambda tx: tx.run(bulk))
    order = [claimed.copy.id for claimed in await claim(catalog, 4)]
    assert set(order[:3]) == {4, 5, 6}
    assert order[3] in {1, 2, 3}


async def test_a_lease_that_ran_out_makes_the_row_due_again(catalog: Catalog) -> None:
    await wanted(catalog, 1, "disk")
    assert len(await claim(catalog)) == 1
    assert await claim(catalog) == []
    await end_leases(catalog)
    again = await claim(catalog)
    assert [claimed.copy.attempts for claimed in again] == [2]


async def test_who_lost_the_lease_cannot_write_an_outcome(catalog: Catalog) -> None:
    await wanted(catalog, 1, "disk")
    [late] = await claim(catalog)
    await end_leases(catalog)
    [holder] = await claim(catalog)
    with pytest.raises(LeaseLost):
        await catalog.write(prove, late)
    with pytest.raises(LeaseLost):
        await catalog.write(claims.fail, table, late.lease, "late")
    with pytest.raises(LeaseLost):
        await catalog.write(claims.renew, table, late.lease, LEASE)
    await catalog.write(prove, holder)
    copy = await catalog.read(copies.find, holder.copy.id)
    assert copy is not None
    assert (copy.state, copy.attempts, copy.last_error) == (CopyState.PRESENT, 0, None)


async def test_renewal_prolongs_from_now(catalog: Catalog) -> None:
    await wanted(catalog, 1, "disk")
    [claimed] = await claim(catalog, lease_seconds=1)
    renewed = await catalog.write(claims.renew, table, claimed.lease, 500.0)
    assert renewed.until - claimed.lease.until > 400
    await catalog.write(prove, claimed)


async def test_a_failure_rests_on_the_curve_and_never_ends(catalog: Catalog) -> None:
    await wanted(catalog, 1, "disk")
    [claimed] = await claim(catalog)
    await catalog.write(claims.fail, table, claimed.lease, "no luck")
    copy = await catalog.read(copies.find, claimed.copy.id)
    clock = await catalog.read(lambda tx: tx.now())
    assert copy is not None
    assert copy.last_error == "no luck"
    assert copy.due_at is not None
    assert 0.5 < copy.due_at - clock < 1.3
    assert await claim(catalog) == []


@pytest.mark.parametrize(
    ("attempts", "least", "most"),
    [(1, 0.8, 1.2), (2, 1.6, 2.4), (3, 3.2, 4.8), (4, 8, 12), (20, 2880, 4320), (9999, 2880, 4320)],
)
def test_the_curve_grows_from_a_second_to_an_hour(attempts: int, least: float, most: float) -> None:
    assert all(least <= claims.delay_seconds(attempts) <= most for _ in range(50))


async def test_a_lease_given_back_is_due_at_once_and_cost_nothing(catalog: Catalog) -> None:
    await wanted(catalog, 1, "disk")
    [claimed] = await claim(catalog)
    await catalog.write(claims.release, table, claimed.lease)
    [again] = await claim(catalog)
    assert again.copy.attempts == 1


async def test_nothing_is_claimed_for_a_store_that_is_out(catalog: Catalog) -> None:
    await wanted(catalog, 2, "disk", "backup")
    await catalog.write(store_rows.ensure, "disk", "local")
    assert await catalog.write(store_rows.open_circuit, "disk", Unavailable("gone"), 5.0)
    assert await claim(catalog, store="disk") == []
    assert len(await claim(catalog, store="backup")) == 2
    assert await catalog.write(store_rows.close_circuit, "disk")
    assert [claimed.copy.attempts for claimed in await claim(catalog, store="disk")] == [1, 1]


async def test_only_one_process_probes_a_store_that_is_out(catalog: Catalog) -> None:
    await catalog.write(store_rows.ensure, "disk", "local")
    await catalog.write(store_rows.open_circuit, "disk", Unavailable("gone"), 0.0)
    probes = [catalog.write(store_rows.claim_probe, "disk", 60.0) for _ in range(5)]
    assert sorted(await asyncio.gather(*probes)) == [False] * 4 + [True]


async def test_the_work_of_a_dead_process_is_free_at_once(catalog: Catalog) -> None:
    await wanted(catalog, 3, "disk")
    dead = subprocess.run(
        [
            sys.executable,
            "-c",
            "from soundkeep.catalog import claims; print(claims.holder_name('h'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    mine = claims.holder_name("h")

    async def hold(holder: str) -> list[Claimed]:
        return await catalog.write(
            copy_work.claim, Chore.COPY, "disk", holder=holder, limit=1, lease_seconds=LEASE
        )

    [of_dead], [of_me], [elsewhere] = await hold(dead), await hold(mine), await hold("other/1/1")
    assert await catalog.write(claims.release_dead_holders, table, "h") == 1
    assert [claimed.copy.id for claimed in await claim(catalog)] == [of_dead.copy.id]
    held = await catalog.read(lambda tx: set(tx.run(select(table.c.lease_holder)).scalars()))
    assert {mine, "other/1/1"} <= held
    assert of_me.copy.id != elsewhere.copy.id


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    assert claims.is_alive(claims.holder_name("h"))
    assert not claims.is_alive(f"h/{os.getpid()}/1")


async def test_changing_a_leased_row_from_outside_takes_the_lease_away(catalog: Catalog) -> None:
    await wanted(catalog, 1, "disk")
    [claimed] = await claim(catalog)
    await catalog.write(copies.abandon, claimed.copy.digest)
    with pytest.raises(LeaseLost):
        await catalog.write(prove, claimed)
    dropping = (table, Chore.DROP, "disk")
    waits = await catalog.read(claims.waits, [dropping])
    assert LEASE - 5 < waits[dropping] <= LEASE, "its holder may still be writing"
