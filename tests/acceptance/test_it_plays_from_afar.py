"""What a listener hears from a bucket that dies, or whose answers are spoilt on their way: every
byte, right. The longest silence between two pieces is printed."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.afar import (
    DATABASE,
    LEAVES_THE_INBOX_AT_ONCE,
    in_bucket,
    keeping,
    played,
    uploaded,
)
from servers.fault_proxy import Fault, FaultProxy, fault_proxy, flip, reset, stall, truncate
from servers.seaweed import SeaweedFS, running_seaweed
from servers.soundkeep import Json, Server, eventually, running
from soundkeep.digest import CHUNK_BYTES
from sounds import wav

LONGEST_GAP_SECONDS = 15  # far above what is measured, far below a hang
STALL_SECONDS = 0.3
TRIES = 5
SIZE = 6 * CHUNK_BYTES + 4322
SOUND = wav(SIZE, seed=6)

# --- a bucket that dies --------------------------------------------------------------------------


def test_a_stream_from_a_bucket_that_is_killed_reaches_its_end(tmp_path: Path) -> None:
    """The other copy is spoilt up to where the bucket dies, so what was heard until then can only
    have come from the bucket."""
    sound = wav(20_000_000, seed=20)
    dies_at = 10 * CHUNK_BYTES
    killed_at: list[int] = []
    with running_seaweed() as seaweed:
        stores = keeping(bucket=in_bucket(seaweed.new_bucket(), tmp_path / "keys"), backup=DATABASE)
        settings = {**stores, **LEAVES_THE_INBOX_AT_ONCE, "READING__CACHE_BYTES": "0"}
        with running(tmp_path / "data", **settings) as server:
            track = uploaded(server, "long.wav", sound)
            spoil_the_first_chunks(server, 10)

            def kill_once(at: int) -> None:
                if at >= dies_at and not killed_at:
                    seaweed.kill()
                    killed_at.append(at)

            heard = played(server, track, kill_once)
    assert hashlib.sha256(heard.sound).hexdigest() == hashlib.sha256(sound).hexdigest()
    assert any("copy failed" in line and "bucket" in line for line in server.said)
    print(
        f"\nSeaweedFS killed after {killed_at[0]:,} of {len(sound):,} bytes: "
        f"longest gap {1000 * heard.longest_gap_seconds:.0f} ms"
    )
    assert heard.longest_gap_seconds < LONGEST_GAP_SECONDS


def spoil_the_first_chunks(server: Server, count: int) -> None:
    """Zeroes them in the backup, of every sound that is longer than these."""
    statement = (
        "UPDATE chunks SET data = zeroblob(length(data)) WHERE number < ?1 AND generation IN "
        "(SELECT generation FROM chunks WHERE number >= ?1)"
    )
    with closing(sqlite3.connect(server.data / "backup.db", timeout=30)) as database, database:
        spoilt = database.execute(statement, (count,))
        assert spoilt.rowcount == count


# --- answers that are spoilt ---------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A server whose two stores are in one bucket, behind a proxy that spoils answers.

    One alone would be left aside for a while after each fault; of two that fail in turn, one is
    always the first to be asked. What is read is not remembered.
    """

    server: Server
    proxy: FaultProxy
    track: Json


@pytest.fixture(scope="module")
def stage(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("afar")
    with fault_proxy(seaweed.port) as proxy:
        stores = {
            name: in_bucket(
                seaweed.bucket,
                folder / "keys",
                endpoint=proxy.url,
                prefix=f"{name}-{uuid.uuid4().hex}",
            )
            for name in ("first", "second")
        }
        with running(
            folder / "data",
            **keeping(**stores),
            **LEAVES_THE_INBOX_AT_ONCE,
            READING__CACHE_BYTES="0",
            READING__STALL_SECONDS=str(STALL_SECONDS),
        ) as server:
            yield Stage(server, proxy, uploaded(server, "sound.wav", SOUND))


FAULTS: dict[str, Callable[[int, str], Fault]] = {
    "stall": stall,
    "reset": reset,
    "flip": flip,
    "truncate": truncate,
}


def offsets(count: int) -> list[int]:
    """The awkward ones, and as many others as it takes."""
    awkward = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, SIZE - 1]
    return awkward + random.Random(count).sample(range(2, SIZE - 1), count - len(awkward))


def spoil_at(stage: Stage, kind: str, at: int) -> float:
    """Plays the sound while one answer is spoilt at a byte; answers the longest gap.

    On a busy machine a reading may change to the other store of itself, before it comes to that
    byte: then the fault waits for the next.
    """
    struck = stage.proxy.struck
    stage.proxy.suffers(FAULTS[kind](at, stage.track["digest"]), once=True)
    for _ in range(TRIES):
        heard = played(stage.server, stage.track)
        assert heard.sound == SOUND, f"{kind} at {at}"
        if stage.proxy.struck > struck:
            return heard.longest_gap_seconds
    raise AssertionError(f"{kind} at {at} was never met")


def spoil_everywhere(stage: Stage, kind: str, count: int) -> None:
    gaps = [spoil_at(stage, kind, at) for at in offsets(count)]
    print(f"\n{kind} at {count} offsets: longest gap {1000 * max(gaps):.0f} ms")
    assert max(gaps) < LONGEST_GAP_SECONDS
    eventually(lambda: stage.server.check()["passed"])


@pytest.mark.parametrize("kind", FAULTS)
def test_an_answer_that_is_spoilt_at_any_byte_is_not_heard(stage: Stage, kind: str) -> None:
    spoil_everywhere(stage, kind, 10)


@pytest.mark.drill
@pytest.mark.parametrize("kind", FAULTS)
def test_an_answer_that_is_spoilt_at_any_of_200_bytes_is_not_heard(stage: Stage, kind: str) -> None:
    spoil_everywhere(stage, kind, 200)
