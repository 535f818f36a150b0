"""What is trusted of a local file, and what ends that trust."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import ledgers
from reading.stage import flip, noise
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import Corrupt, NotFound, StoreError, Truncated, Unavailable
from soundkeep.reading.trusted import HOT_READS, RACY_NS, LocalFile, Trust

CONTENT = noise(2 * CHUNK_BYTES + 5)
BLOB = ledgers.make_blob(CONTENT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is old enough to be trusted."""
    path = tmp_path / "sound"
    path.write_bytes(CONTENT)
    settle(path)
    return path


def settle(path: Path) -> None:
    deadline = time.monotonic() + 5
    while time.time_ns() - path.stat().st_ctime_ns <= RACY_NS and time.monotonic() < deadline:
        time.sleep(0.01)


def is_trusted(file: LocalFile, index: int) -> bool:
    return file._marks.hold(index, index + 1)


@pytest.mark.parametrize("wait", [True, False])
def test_any_part_of_a_chunk_is_read_before_and_after_it_is_trusted(path: Path, wait: bool) -> None:
    file = LocalFile(str(path), BLOB, Trust(60))
    for _ in range(2):
        for start, stop in ((0, 1), (5, 99), (0, CHUNK_BYTES), (2 * CHUNK_BYTES, len(CONTENT))):
            assert file.read(start, stop, wait=wait) == CONTENT[start:stop]
    assert is_trusted(file, 0)
    assert not is_trusted(file, 1)


def test_a_range_that_is_read_again_and_again_is_answered_from_memory(path: Path) -> None:
    file = LocalFile(str(path), BLOB, Trust(60, hot_bytes=5))
    scratch = bytearray(CHUNK_BYTES)
    for start in (0, 7):  # there is memory for one of them
        for _ in range(HOT_READS + 3):
            assert file.read(start, start + 5, wait=False, into=scratch) == CONTENT[start:][:5]
    assert file.read(0, 5) is file.read(0, 5)
    assert file.read(7, 12) is not file.read(7, 12)


def test_damage_to_a_file_that_is_answered_from_memory_shows_at_once(path: Path) -> None:
    file = LocalFile(str(path), BLOB, Trust(60, hot_bytes=100))
    for _ in range(HOT_READS + 3):
        assert file.read(0, 5) == CONTENT[:5]
    flip(path, 3)
    with pytest.raises(Corrupt):
        file.read(0, 5)


def test_memory_of_hot_ranges_is_given_back_with_their_file(path: Path) -> None:
    trust = Trust(60, hot_bytes=5)
    for _ in range(2):
        file = LocalFile(str(path), BLOB, trust)
        for _ in range(HOT_READS + 2):
            file.read(0, 5)
        assert file.read(0, 5) is file.read(0, 5)
        del file


@pytest.mark.parametrize("wait", [True, False])
def test_a_range_over_several_chunks_is_trusted_once_each_was_verified(
    path: Path, wait: bool
) -> None:
    file = LocalFile(str(path), BLOB, Trust(60))
    file.read(0, 1)
    for start, stop in ((7, CHUNK_BYTES + 1), (CHUNK_BYTES - 1, len(CONTENT)), (0, len(CONTENT))):
        for _ in range(2):
            assert file.read(start, stop, wait=wait) == CONTENT[start:stop]
    assert all(is_trusted(file, index) for index in range(3))


def test_damage_in_any_chunk_of_a_range_is_noticed(path: Path) -> None:
    for index in range(3):
        flip(path, index * CHUNK_BYTES)
        settle(path)
        with pytest.raises(Corrupt, match=f"chunk {index} "):
            LocalFile(str(path), BLOB, Trust(60)).read(1, len(CONTENT))
        flip(path, index * CHUNK_BYTES)


def test_a_flip_behind_a_trusted_chunk_is_noticed_in_an_open_file(path: Path) -> None:
    file = LocalFile(str(path), BLOB, Trust(60))
    file.read(0, 10)
    flip(path, 5)
    with pytest.raises(Corrupt):
        file.read(0, 10)


def test_a_file_that_was_only_touched_or_linked_is_verified_anew_and_stays_good(
    path: Path,
) -> None:
    file = LocalFile(str(path), BLOB, Trust(60))
    file.read(0, 10)
    os.link(path, path.with_name("linked"))
    assert file.read(0, 10) == CONTENT[:10]


def test_what_was_verified_in_the_tick_of_a_change_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "fresh"
    path.write_bytes(CONTENT)
    in_the_future_ns = time.time_ns() + 10**12
    os.utime(path, ns=(in_the_future_ns, in_the_future_ns))
    file = LocalFile(str(path), BLOB, Trust(60))
    assert file.read(0, 10) == CONTENT[:10]
    assert not is_trusted(file, 0)


def test_trust_ends_with_its_time_also_in_an_open_file(path: Path) -> None:
    file = LocalFile(str(path), BLOB, Trust(0))
    assert file.read(0, 10) == CONTENT[:10]
    assert not is_trusted(file, 0)


def test_a_file_that_is_cut_behind_our_back_raises_and_never_kills(path: Path) -> None:
    file = LocalFile(str(path), BLOB, Trust(60))
    file.read(0, 10)
    os.truncate(path, 3)
    for start in (0, CHUNK_BYTES):
        with pytest.raises(Truncated):
            file.read(start, start + 10)


def test_what_is_known_of_files_is_bounded(path: Path) -> None:
    trust = Trust(60, max_files=1)
    LocalFile(str(path), BLOB, trust).read(0, 10)
    other = path.with_name("other")
    other.write_bytes(CONTENT)
    LocalFile(str(other), BLOB, trust)
    assert not is_trusted(LocalFile(str(path), BLOB, trust), 0)


def _missing(path: Path) -> None:
    path.unlink()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _symlink(path: Path) -> None:
    path.rename(path.with_name("target"))
    path.symlink_to("target")


def _longer(path: Path) -> None:
    path.write_bytes(CONTENT + b"x")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [(_missing, NotFound), (_fifo, Truncated), (_symlink, Unavailable), (_longer, Truncated)],
)
def test_what_is_no_such_file_is_refused_at_once(
    path: Path, spoil: object, error: type[StoreError]
) -> None:
    assert callable(spoil)
    spoil(path)
    with pytest.raises(error):
        LocalFile(str(path), BLOB, Trust(60))
