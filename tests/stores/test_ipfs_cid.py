"""A file's CID is the one that IPFS itself gives it: the vectors were made by its own importer."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.node import node_program
from soundkeep.digest import Digest
from soundkeep.stores.ipfs_cid import (
    DAG_PB,
    LEAF_BYTES,
    MOST_LINKS,
    RAW,
    Cid,
    cid_of,
    file_bytes,
    first_cid,
)

MIB = 1024 * 1024
LARGE = 1_100_000_000  # more leaves than one node has links

VECTORS = {  # of `patterned`, made by tests/node/ipfs/cid.mjs
    0: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    1: "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
    MIB - 1: "bafkreigkp3imjkhgps64iyoezmgsq3jpvo6z6dcbu72cwzs7olv2vcxmky",
    MIB: "bafkreibq4fevl27rgurgnxbp7adh42aqiyd6ouflxhj3gzmcxcxzbh6lla",
    MIB + 1: "bafybeiaomlonartwxzal4y3jecn5axopw3ip6ie37q33qlyuccqpfok7p4",
    20_000_000: "bafybeie6il4zdam3vsfyj3rzvnptle572zu55jzuftibxmu6gwn2ztc4du",
    LARGE: "bafybeicyppkr5jj45zia6dykcc6kd6ushtcdvej6aa45s6kr2gfhzbzuia",
}
HELLO = b"hello worlds\n"  # as one block of the older form: a leaf that is no raw one
HELLO_V0 = "QmZ4tDuvesekSs4qM5ZBKpXiZGun7S2CYtEZRB3DYXkjGx"


def patterned(size_bytes: int) -> Iterator[bytes]:
    """The bytes of tests/node/ipfs/cid.mjs, by the MiB."""
    for at in range(0, size_bytes, MIB):
        yield bytes((at // MIB % 251,)) * min(MIB, size_bytes - at)


# --- the same name as everybody gives -------------------------------------------------------


@pytest.mark.parametrize("size_bytes", VECTORS)
def test_a_file_has_the_name_that_ipfs_gives_it(size_bytes: int) -> None:
    assert str(cid_of(patterned(size_bytes))) == VECTORS[size_bytes]


def test_the_importer_of_ipfs_gives_these_names_today() -> None:
    sizes = [*VECTORS, 2 * MIB, MOST_LINKS * MIB, MOST_LINKS * MIB + 1]
    command = [*node_program("ipfs", "cid.mjs"), *map(str, sizes)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert told.stdout.split() == [str(cid_of(patterned(size))) for size in sizes]


@given(cuts=st.lists(st.integers(0, 3 * MIB + 5), max_size=6))
def test_the_name_does_not_depend_on_how_the_bytes_come(cuts: list[int]) -> None:
    whole = b"".join(patterned(3 * MIB + 5))
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[first:last] for first, last in itertools.pairwise(edges)]
    assert cid_of(pieces) == cid_of([whole])


def test_a_small_file_is_one_block_that_names_the_bytes_themselves() -> None:
    cid = cid_of([b"abc"])
    assert cid.codec == RAW
    assert cid.sha256 == Digest.of(b"abc").raw
    assert cid.names(b"abc")
    assert not cid.names(b"abd")
    assert cid_of([bytes(LEAF_BYTES), b"x"]).sha256 is None


# --- names in other forms -------------------------------------------------------------------


FORMS = {
    "version 0": "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
    "base 32": "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    "base 16": "f01701220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_one_block_are_the_same_however_they_are_written(form: str) -> None:
    cid = Cid.parse(FORMS[form])
    assert cid == Cid.parse(FORMS["base 32"])
    assert (str(cid), cid.codec) == (FORMS[form], DAG_PB)
    raw = Cid.parse(VECTORS[0])
    assert raw.multihash == cid.multihash
    assert raw != cid


def test_the_names_that_nodes_give_in_base_58_are_read() -> None:
    told = Cid.parse("zb2rhdFWgRm78u3fYA8tGbh3QqHTFnPsWhsJmQ3ufHjMwv6pc")
    assert told == Cid.parse("bafkreidcfsztoha2baew5kwfmt5vtlgm3ip43pqtvhorbneg4zddzdbfeu")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "blobs/ab12",
        "Qm",
        "Qm" + "0" * 44,  # no letter of base 58
        VECTORS[1][:-2],
        VECTORS[1] + "aa",
        VECTORS[1].upper(),
        "b" + "a" * 58,
        "f" + "01" * 200,
        "bäfkrei",
        "../etc",
    ],
)
def test_what_is_no_cid_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Cid.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_a_cid_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert str(Cid.parse(text)) == text


@given(st.binary(min_size=32, max_size=32))
def test_no_digest_passes_for_a_cid(digest: bytes) -> None:
    assert first_cid([None, digest.hex(), f"blobs/{digest.hex()}", VECTORS[1]]) == VECTORS[1]
    assert first_cid([None, digest.hex()]) is None


# --- the size of a file, from its root ------------------------------------------------------


def test_the_root_of_a_file_tells_its_size() -> None:
    leaf = bytes.fromhex("0a130802120d") + HELLO + bytes.fromhex("180d")
    assert Cid.parse(HELLO_V0).names(leaf)
    assert file_bytes(leaf) == len(HELLO)
    assert file_bytes(leaf[:-2].replace(b"\x0a\x13", b"\x0a\x11")) == len(HELLO)


@pytest.mark.parametrize("block", [b"", b"\x0a", bytes.fromhex("0a020801"), b"\x12\x05", b"\xff"])
def test_what_is_the_root_of_no_file_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError):
        file_bytes(block)


@given(st.binary(max_size=60))
def test_any_block_is_read_or_refused(block: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert file_bytes(block) >= 0
