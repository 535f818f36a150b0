"""The contract of a store as tests, each named by what is true when it passes.

Subclass `StoreContract`, supply a fixture `store` that yields a store whose marker was written,
and inherit the tests. `running` runs the same tests against a store in use.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from datetime import timedelta

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import NotFound, SoundkeepError, TooLarge, Truncated
from soundkeep.stores.interface import RESERVED_PREFIX, Key, Receipt, Store
from soundkeep.testing.expecting import fails_with, listed, read
from soundkeep.testing.sources import BreakingSource, BytesSource, WaitingSource

CHUNK = CHUNK_BYTES
SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17)
LARGE = 40 * CHUNK + 5  # half of it is more than a store is likely to hold back

ODD_SEGMENTS = (
    "with space",
    " leading and trailing ",
    ".hidden",
    "ends.in.dots..",
    "percent%20and%2Fslash",
    "a+b&c=d?e#f",
    "quote'and\"double",
    "under_score%like",
    "semi;colon:comma,",
    "Grüße-Ελλάδα-日本語-🎧",
    "e\u0301 is not \u00e9",
    "x" * 255,
    "ü" * 127,
)
IN_ORDER = ("a", "a b", "a-b", "a.b", "a/b", "a/c/d", "a0", "aa", "b", "zz", "ä", "日", "🎧")


class StoreContract:
    """What every store owes."""

    prefix = "contract/"
    reap_age = timedelta(0)
    many = 12

    # --- bytes ------------------------------------------------------------------------------

    async def test_every_byte_comes_back_at_every_size(self, store: Store) -> None:
        for size in SIZES:
            receipt, data = await self.put(store, f"size-{size}", size)
            assert await read(store, receipt.locator) == data
            stat = await store.stat(receipt.locator)
            assert stat is not None
            assert (stat.locator, stat.size_bytes) == (receipt.locator, size)

    async def test_every_range_gives_exactly_its_bytes(self, store: Store) -> None:
        size = 3 * CHUNK + 17
        receipt, data = await self.put(store, "ranges", size)
        edges = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, size - 1, size)
        for start in edges:
            for stop in (*(edge for edge in edges if edge >= start), None):
                assert await read(store, receipt.locator, start, stop) == data[start:stop]

    async def test_a_range_outside_the_object_is_an_error(self, store: Store) -> None:
        receipt, _ = await self.put(store, "outside", 10)
        for start, stop in ((0, 11), (10, 11), (11, None), (11, 11)):
            await fails_with(Truncated, read(store, receipt.locator, start, stop))

    async def test_no_piece_of_a_body_is_empty(self, store: Store) -> None:
        receipt, _ = await self.put(store, "pieces", CHUNK + 1)
        async with aclosing(store.open(receipt.locator)) as pieces:
            assert all([len(piece) > 0 async for piece in pieces])

    async def test_a_body_left_early_gives_everything_back(self, store: Store) -> None:
        receipt, data = await self.put(store, "early", 3 * CHUNK)
        for _ in range(3 * self.many):  # more than a pool has connections
            async with aclosing(store.open(receipt.locator)) as pieces:
                assert data.startswith(await anext(pieces))
        await store.delete(receipt.locator)
        assert await store.stat(receipt.locator) is None

    async def test_many_readers_get_their_own_bytes(self, store: Store) -> None:
        receipt, data = await self.put(store, "crowd", 2 * CHUNK + 3)
        starts = [number * 1000 for number in range(self.many)]
        bodies = await asyncio.gather(*(read(store, receipt.locator, at) for at in starts))
        assert bodies == [data[at:] for at in starts]

    # --- whole or nothing -------------------------------------------------------------------

    async def test_a_source_that_breaks_off_leaves_nothing(self, store: Store) -> None:
        source = BreakingSource(os.urandom(LARGE))
        await fails_with(ConnectionResetError, store.put(self.key("broken"), source))
        await self.holds_nothing(store, "broken")

    async def test_a_source_that_breaks_off_leaves_the_former_object(self, store: Store) -> None:
        receipt, data = await self.put(store, "kept", CHUNK + 5)
        source = BreakingSource(os.urandom(LARGE))
        await fails_with(ConnectionResetError, store.put(self.key("kept"), source))
        assert await read(store, receipt.locator) == data

    async def test_a_source_of_another_length_than_announced_leaves_nothing(
        self, store: Store
    ) -> None:
        data = os.urandom(CHUNK + 5)
        for announced in (0, 1, CHUNK, len(data) - 1, len(data) + 1, LARGE):
            source = BytesSource(data, announced_bytes=announced)
            await fails_with(SoundkeepError, store.put(self.key("liar"), source))
            await self.holds_nothing(store, "liar")

    async def test_a_put_is_invisible_until_it_is_whole(self, store: Store) -> None:
        source, putting = await self.put_half(store, "half")
        await self.holds_nothing(store, "half")
        source.may_go_on.set()
        receipt = await putting
        assert await read(store, receipt.locator) == source.data

    async def test_a_cancelled_put_leaves_nothing(self, store: Store) -> None:
        await self.cancel_half_way(store, "cancelled")
        await self.put(store, "afterwards", 1)  # what was still on its way has arrived by now
        await self.holds_nothing(store, "cancelled")

    async def test_a_cancelled_put_leaves_the_former_object(self, store: Store) -> None:
        receipt, data = await self.put(store, "survivor", CHUNK + 5)
        await self.cancel_half_way(store, "survivor")
        await self.put(store, "afterwards", 1)
        assert await read(store, receipt.locator) == data

    async def test_a_put_replaces_what_lay_there(self, store: Store) -> None:
        for size in (2 * CHUNK + 1, 10, 0, CHUNK):
            receipt, data = await self.put(store, "replaced", size)
            assert await read(store, receipt.locator) == data

    async def test_a_put_repairs_other_bytes_of_the_same_length(self, store: Store) -> None:
        await self.put(store, "repaired", CHUNK + 1)
        receipt, good = await self.put(store, "repaired", CHUNK + 1)
        again = await store.put(self.key("repaired"), BytesSource(good))
        assert again.locator == receipt.locator
        assert await read(store, receipt.locator) == good

    async def test_puts_of_one_key_at_once_leave_one_of_them_whole(self, store: Store) -> None:
        bodies = [os.urandom(2 * CHUNK + number) for number in range(4)]
        key = self.key("contested")
        puts = (store.put(key, BytesSource(data)) for data in bodies)
        receipts = await asyncio.gather(*puts)
        assert await read(store, receipts[-1].locator) in bodies

    async def test_a_reader_never_gets_a_mixture_of_two_objects(self, store: Store) -> None:
        receipt, old = await self.put(store, "switched", 4 * CHUNK)
        async with aclosing(store.open(receipt.locator)) as pieces:
            got = await anext(pieces)
            _, new = await self.put(store, "switched", 4 * CHUNK)
            try:
                got += b"".join([piece async for piece in pieces])
            except Truncated:
                assert old.startswith(got)
                return
        assert got in (old, new)

    async def test_what_is_too_large_for_the_store_is_refused(self, store: Store) -> None:
        limit = store.caps.max_bytes
        if limit is None:
            return
        source = BytesSource(b"", announced_bytes=limit + 1)
        await fails_with(TooLarge, store.put(self.key("large"), source))

    # --- absence ----------------------------------------------------------------------------

    async def test_what_was_never_put_is_absent(self, store: Store) -> None:
        locator = await self.free_locator(store)
        assert await store.stat(locator) is None

    async def test_opening_what_is_absent_says_so(self, store: Store) -> None:
        await fails_with(NotFound, read(store, await self.free_locator(store)))

    async def test_to_delete_twice_is_the_same_as_once(self, store: Store) -> None:
        receipt, _ = await self.put(store, "deleted", CHUNK + 1)
        for _ in range(2):
            await store.delete(receipt.locator)
            assert await store.stat(receipt.locator) is None
        await fails_with(NotFound, read(store, receipt.locator))

    async def test_a_deleted_key_can_be_put_again(self, store: Store) -> None:
        receipt, _ = await self.put(store, "phoenix", 5)
        await store.delete(receipt.locator)
        receipt, data = await self.put(store, "phoenix", CHUNK + 1)
        assert await read(store, receipt.locator) == data

    async def test_deleting_one_object_leaves_its_neighbours(self, store: Store) -> None:
        gone, _ = await self.put(store, "street/1", 5)
        stays, data = await self.put(store, "street/10", 6)
        await store.delete(gone.locator)
        assert await read(store, stays.locator) == data

    # --- keys -------------------------------------------------------------------------------

    async def test_odd_but_legal_keys_are_kept_apart(self, store: Store) -> None:
        put = [await self.put(store, f"odd/{segment}", 20) for segment in ODD_SEGMENTS]
        for receipt, data in put:
            assert await read(store, receipt.locator) == data

    async def test_a_key_tells_where_its_object_will_lie(self, store: Store) -> None:
        if not store.caps.lists:
            return
        spelling = store.caps.spelling
        for segment in (*ODD_SEGMENTS, "a=b", "a=3Db", "a=C3=A4"):
            key = str(self.key(f"told/{segment}"))
            receipt, data = await self.put(store, f"told/{segment}", 20)
            assert spelling.locator_of(key) == receipt.locator
            assert spelling.key_of(receipt.locator) == key
            assert await read(store, spelling.locator_of(key)) == data

    async def test_the_beginning_of_a_key_tells_how_its_locator_begins(self, store: Store) -> None:
        if not store.caps.lists:
            return
        receipt, _ = await self.put(store, "in=Grüße/x", 1)
        await self.put(store, "in=Gr/x", 1)
        folder = store.caps.spelling.locator_of(f"{self.prefix}in=Grüße/")
        assert await listed(store, folder) == [receipt.locator]

    async def test_the_longest_key_is_taken(self, store: Store) -> None:
        room = 1024 - len(f"{self.prefix}{'y' * 255}/".encode())
        receipt, data = await self.put(store, f"{'y' * 255}/" + _long_name(room), 20)
        assert await read(store, receipt.locator) == data

    # --- listing ----------------------------------------------------------------------------

    async def test_a_list_is_in_the_order_of_bytes(self, store: Store) -> None:
        if not store.caps.lists:
            return
        sizes = {}
        for number, name in enumerate(_without_conflicts(IN_ORDER)):
            receipt, _ = await self.put(store, f"order/{name}", number)
            sizes[receipt.locator] = number
        found = [stat async for stat in store.list(f"{self.prefix}order/")]
        assert [(stat.locator, stat.size_bytes) for stat in found] == sorted(sizes.items())

    async def test_a_list_goes_on_after_any_locator(self, store: Store) -> None:
        if not store.caps.lists:
            return
        for name in ("a/1", "a/2", "b", "c/d/e", "c/f"):
            await self.put(store, f"after/{name}", 1)
        prefix = f"{self.prefix}after/"
        every = await listed(store, prefix)
        for after in (*every, f"{prefix}a", f"{prefix}a/", f"{prefix}c/e", f"{prefix}~"):
            assert await listed(store, prefix, after) == [one for one in every if one > after]

    async def test_a_prefix_is_taken_letter_by_letter(self, store: Store) -> None:
        if not store.caps.lists:
            return
        put = {}
        for name in ("100%", "100%_a", "100x", "1000", "dir/x", "dir2/x"):
            receipt, _ = await self.put(store, f"prefix/{name}", 1)
            put[name] = receipt.locator
        base = f"{self.prefix}prefix/"
        for prefix, names in {
            "100%": ["100%", "100%_a"],
            "100%_": ["100%_a"],
            "dir": ["dir/x", "dir2/x"],
            "dir/": ["dir/x"],
            "nothing": [],
        }.items():
            assert await listed(store, base + prefix) == [put[name] for name in names]

    async def test_a_long_list_is_complete(self, store: Store) -> None:
        if not store.caps.lists:
            return
        names = [f"{self.prefix}long/{number:04}" for number in range(self.many)]
        await asyncio.gather(*(store.put(Key(name), BytesSource(b"x")) for name in names))
        assert await listed(store, f"{self.prefix}long/") == names

    async def test_a_list_never_shows_what_is_reserved(self, store: Store) -> None:
        if not store.caps.lists:
            return
        key = Key(f"{RESERVED_PREFIX}{self.prefix}hidden")
        receipt = await store.put(key, BytesSource(b"x"))
        assert await read(store, receipt.locator) == b"x"
        assert await listed(store, RESERVED_PREFIX) == []
        first = await _first(store, "", RESERVED_PREFIX[:-1])
        assert first is None or not first.startswith(RESERVED_PREFIX)
        await store.delete(receipt.locator)

    # --- the place --------------------------------------------------------------------------

    async def test_a_store_that_works_can_be_probed(self, store: Store) -> None:
        await store.probe()

    async def test_the_marker_is_found_again(self, store: Store) -> None:
        if not store.caps.marks:
            return
        store_id = await store.read_marker()
        assert store_id is not None
        await store.write_marker(store_id)
        assert await store.read_marker() == store_id

    async def test_reaping_leaves_what_is_visible(self, store: Store) -> None:
        receipt, data = await self.put(store, "visible", CHUNK + 1)
        await self.cancel_half_way(store, "hidden")
        assert await store.reap(self.reap_age) >= 0
        assert await read(store, receipt.locator) == data

    async def test_a_signed_url_comes_only_from_a_store_that_signs(self, store: Store) -> None:
        receipt, _ = await self.put(store, "signed", 5)
        url = await store.sign(receipt.locator, timedelta(minutes=1))
        assert (url is not None) == store.caps.signs

    async def test_no_stored_time_lies_in_another_era(self, store: Store) -> None:
        receipt, _ = await self.put(store, "dated", 5)
        stat = await store.stat(receipt.locator)
        assert stat is not None
        if stat.modified_at is not None:
            assert abs(stat.modified_at - time.time()) < timedelta(days=1).total_seconds()

    # --- what the tests are made of ---------------------------------------------------------

    def key(self, name: str) -> Key:
        return Key(self.prefix + name)

    async def put(self, store: Store, name: str, size_bytes: int) -> tuple[Receipt, bytes]:
        """Puts random bytes; answers them too."""
        data = os.urandom(size_bytes)
        return await store.put(self.key(name), BytesSource(data)), data

    async def put_half(
        self, store: Store, name: str
    ) -> tuple[WaitingSource, asyncio.Future[Receipt]]:
        """A put that has taken half of its bytes and waits for the rest."""
        source = WaitingSource(os.urandom(LARGE))
        putting = asyncio.ensure_future(store.put(self.key(name), source))
        half_given = asyncio.ensure_future(source.half_given.wait())
        await asyncio.wait((putting, half_given), return_when=asyncio.FIRST_COMPLETED)
        half_given.cancel()
        if putting.done():
            raise AssertionError("the put ended before its bytes did") from putting.exception()
        return source, putting

    async def cancel_half_way(self, store: Store, name: str) -> None:
        """Cancels a put that has taken half of its bytes."""
        _, putting = await self.put_half(store, name)
        putting.cancel()
        await fails_with(asyncio.CancelledError, putting)

    async def holds_nothing(self, store: Store, name: str) -> None:
        """Nothing is visible there, as far as a key tells where to look."""
        locator = store.caps.spelling.locator_of(str(self.key(name)))
        if store.caps.lists:
            assert await listed(store, locator) == []
        assert await store.stat(locator) is None

    async def free_locator(self, store: Store) -> str:
        """A locator of the store's own making at which nothing lies any more."""
        receipt, _ = await self.put(store, "free", 7)
        await store.delete(receipt.locator)
        return receipt.locator


async def _first(store: Store, prefix: str, after: str) -> str | None:
    """The first locator listed; the store may hold millions."""
    async for stat in store.list(prefix, after):
        return stat.locator
    return None


def _long_name(size_bytes: int) -> str:
    """So many bytes in segments of the greatest length."""
    full, rest = divmod(size_bytes, 256)
    return "/".join(["z" * 255] * full + ["z" * rest] * bool(rest))


def _without_conflicts(names: tuple[str, ...]) -> list[str]:
    """Without names that are also a directory of others: no file system holds both."""
    return [name for name in names if not any(one.startswith(f"{name}/") for one in names)]
