"""Pieces of any size become pieces of one size, and no byte is lost or moved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.errors import Corrupt, TooLarge, Truncated
from soundkeep.stores.interface import Bytes, Caps
from soundkeep.stores.pieces import check_fits, exactly, regrouped, span
from soundkeep.testing import BytesSource
from soundkeep.testing.expecting import fails_with


async def each(pieces: list[bytes]) -> Bytes:
    for piece in pieces:
        yield piece


async def collected(pieces: Bytes) -> list[bytes]:
    return [piece async for piece in pieces]


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 30))
async def test_regrouping_keeps_every_byte_in_its_place(pieces: list[bytes], size: int) -> None:
    got = await collected(regrouped(each(pieces), size))
    assert b"".join(got) == b"".join(pieces)
    assert all(len(piece) == size for piece in got[:-1])
    assert all(0 < len(piece) <= size for piece in got)


@pytest.mark.parametrize("announced", [0, 4, 6])
async def test_a_source_is_held_to_what_it_announced(announced: int) -> None:
    source = BytesSource(b"12345", announced_bytes=announced)
    await fails_with(Corrupt if announced < 5 else Truncated, collected(exactly(source)))


@pytest.mark.parametrize("announced", [1, 2, 3])
async def test_nobody_gets_every_byte_of_a_source_that_turns_out_wrong(announced: int) -> None:
    """Whoever has as many as were announced makes an object of them."""

    async def lying() -> Bytes:
        for _ in range(announced):
            yield b"x"
        raise Corrupt("only the end tells")

    class Lying(BytesSource):
        def open(self, start: int = 0, stop: int | None = None) -> Bytes:
            return lying()

    given = exactly(Lying(b"", announced_bytes=announced))
    for _ in range(announced - 1):
        assert await anext(given) == b"x"
    await fails_with(Corrupt, anext(given))


@pytest.mark.parametrize(
    ("start", "stop", "found"), [(0, None, (0, 10)), (9, 10, (9, 10)), (10, None, (10, 10))]
)
def test_a_span_has_its_end_filled_in(start: int, stop: int | None, found: tuple[int, int]) -> None:
    assert span(10, start, stop) == found


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (0, 11), (11, None), (5, 4)])
def test_a_span_outside_is_truncated(start: int, stop: int | None) -> None:
    with pytest.raises(Truncated):
        span(10, start, stop)


def test_what_a_store_does_not_take_is_too_large() -> None:
    check_fits(Caps(max_bytes=5), BytesSource(b"12345"))
    with pytest.raises(TooLarge):
        check_fits(Caps(max_bytes=4), BytesSource(b"12345"))
