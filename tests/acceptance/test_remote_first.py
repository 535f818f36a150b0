"""The bucket comes first and the disk is the fallback: while the bucket is down uploads are
acknowledged and play all the same, and once it serves again it is filled without any help."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.commands import Program
from servers.afar import DISK, in_bucket, keeping
from servers.s3_plain import Bucket
from servers.seaweed import SeaweedFS, running_seaweed
from servers.soundkeep import KEY, Json, Server, eventually, running
from sounds import wav

FEW, MANY = 80, 200  # uploads
AT_ONCE = 6
BEFORE_THE_OUTAGE = 20
FILLED_WITHIN_SECONDS = 30
P99_SECONDS = 2.0


@dataclass
class Uploads:
    """Small sounds, uploaded several at once, each played as soon as it is acknowledged."""

    server: Server
    over_seconds: float = 0.0
    count: int = FEW
    seconds: list[float] = field(default_factory=list)  # that each answer took
    tracks: dict[int, Json] = field(default_factory=dict)  # by the seed of their sound

    def run(self) -> Iterator[None]:
        """Gives the word after each upload that is acknowledged and was heard."""
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running: list[Future[None]] = [
                pool.submit(self._upload, seed, began + seed * self.over_seconds / self.count)
                for seed in range(self.count)
            ]
            for done in running:
                done.result()
                yield

    def _upload(self, seed: int, due_at: float) -> None:
        time.sleep(max(0.0, due_at - time.monotonic()))  # they come one by one, not in one burst
        began = time.monotonic()
        answer = self.server.ask("POST", f"/api/tracks?path={seed}.wav", sound(seed))
        self.seconds.append(time.monotonic() - began)
        assert answer.status == 201, answer.body
        self.tracks[seed] = answer.json
        assert answer.json["temporary"] is False, "a store acknowledged it"
        self.play(seed)

    def play(self, seed: int) -> None:
        assert self.server.sound(self.tracks[seed]["id"]) == sound(seed)

    def are_in(self, bucket: Bucket, prefix: str = "") -> bool:
        """Whether each lies there byte for byte."""
        return all(
            bucket.ask("GET", f"{prefix}blobs/{track['digest']}").body == sound(seed)
            for seed, track in self.tracks.items()
        )

    @property
    def p99_seconds(self) -> float:
        return sorted(self.seconds)[len(self.seconds) * 99 // 100]


def sound(seed: int) -> bytes:
    return wav(20_000 + 2 * seed, seed)


@contextmanager
def remote_first(folder: Path) -> Iterator[tuple[SeaweedFS, Bucket, Server]]:
    with running_seaweed() as seaweed:
        bucket = seaweed.new_bucket()
        stores = keeping(bucket=in_bucket(bucket, folder / "keys"), disk=DISK)
        with running(folder / "data", **stores) as server:
            eventually(lambda: server.check()["passed"])
            yield seaweed, bucket, server


def attempts(server: Server) -> int:
    """The most that a copy in the bucket has spent; those being made just now not counted."""
    statement = "SELECT max(attempts) FROM copies WHERE store = 'bucket' AND lease_token IS NULL"
    with closing(sqlite3.connect(server.data / "catalog.db", timeout=30)) as catalog:
        [most] = catalog.execute(statement).fetchone()
    return int(most or 0)


def state_of_the_bucket(server: Server) -> str:
    return str(server.ask("GET", "/api/stores/bucket").json["state"])


def upload_through_an_outage(folder: Path, count: int, down_seconds: float) -> Uploads:
    with remote_first(folder) as (seaweed, bucket, server):
        uploads = Uploads(server, down_seconds, count)
        killed_at = 0.0
        for number, _ in enumerate(uploads.run(), 1):
            if number == BEFORE_THE_OUTAGE:
                seaweed.kill()
                killed_at = time.monotonic()
        eventually(lambda: time.monotonic() > killed_at + down_seconds, down_seconds + 1)
        assert state_of_the_bucket(server) == "out"
        for seed in uploads.tracks:
            uploads.play(seed)
        assert attempts(server) == 0, "an outage costs no row anything"

        seaweed.start()
        seaweed.wait_until_it_takes_writes(bucket)
        serves_again_at = time.monotonic()
        spent: list[int] = []

        def is_filled() -> bool:
            spent.append(attempts(server))
            return bool(server.check()["passed"])

        eventually(is_filled, FILLED_WITHIN_SECONDS)
        print(
            f"\n{len(uploads.tracks)} uploads through an outage of {down_seconds:g} s: "
            f"p50 {1000 * sorted(uploads.seconds)[count // 2]:.0f} ms, "
            f"p99 {1000 * uploads.p99_seconds:.0f} ms, most {1000 * max(uploads.seconds):.0f} ms; "
            f"all in the bucket {time.monotonic() - serves_again_at:.1f} s after it served again; "
            f"most attempts of a row {max(spent)}"
        )
        assert max(spent) <= 1
        soundkeep = Program(environ={"SOUNDKEEP_URL": server.url, "SOUNDKEEP_KEY": KEY})
        soundkeep("check")
        assert uploads.are_in(bucket)
        for seed in uploads.tracks:
            uploads.play(seed)
    return uploads


def test_uploads_while_the_bucket_is_down_are_kept_played_and_in_the_bucket_afterwards(
    tmp_path: Path,
) -> None:
    uploads = upload_through_an_outage(tmp_path, FEW, down_seconds=4)
    assert len(uploads.tracks) == FEW


@pytest.mark.drill
def test_uploads_during_a_minute_without_the_bucket_are_acknowledged_as_fast_as_ever(
    tmp_path: Path,
) -> None:
    uploads = upload_through_an_outage(tmp_path, MANY, down_seconds=60)
    assert len(uploads.tracks) == MANY
    assert uploads.p99_seconds < P99_SECONDS


# --- a bucket that hangs -------------------------------------------------------------------------


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process says nothing, and its connections stay open."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_uploads_while_the_bucket_hangs_are_kept_and_cost_no_row_an_attempt(
    seaweed: SeaweedFS, tmp_path: Path
) -> None:
    bucket, prefix = seaweed.bucket, f"hangs-{uuid.uuid4().hex}"
    far = in_bucket(bucket, tmp_path / "keys", prefix=prefix, timeout_seconds=3)
    with running(tmp_path / "data", **keeping(bucket=far, disk=DISK)) as server:
        eventually(lambda: server.check()["passed"])
        uploads = Uploads(server, count=40)
        with stopped(seaweed.pid):
            for _ in uploads.run():
                pass
            eventually(lambda: state_of_the_bucket(server) == "out")
            assert attempts(server) == 0
        eventually(lambda: server.check()["passed"])
        assert uploads.are_in(bucket, f"{prefix}/")
    slow = sum(seconds > 1 for seconds in uploads.seconds)
    print(
        f"\n{uploads.count} uploads while the bucket hung: {slow} took over a second, none more "
        f"than {max(uploads.seconds):.1f} s"
    )
