"""Files into a bucket: imported by Soundkeep through its ledger, and copied by rclone and AWS.

In the full form each run has a SeaweedFS of its own, started before the clock and removed after
it, or the disk would fill; the short form has one for all. Ours hashes and
decodes every file, records it, lets it land in the inbox and puts it with its SHA-256, and ends
when it has counted that every copy is proven. The others send the files. (A second program then
counts once more, after the clock, as `rclone check` would.)
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
from harness import (
    Figure,
    Gate,
    Reading,
    Report,
    Round,
    command,
    interleave,
    our_environment,
    peak_megabytes,
    run,
)
from servers.s3_plain import Bucket
from servers.seaweed import SeaweedFS

BIN = Path(sys.executable).parent
SMALL_BYTES = 1_000_000
LARGE_BYTES = 200_000_000

NewBucket = Callable[[], AbstractContextManager[Bucket]]


@dataclass(frozen=True)
class Case:
    """So many files of one size."""

    name: str
    files: int
    file_bytes: int


def upload_s3(report: Report) -> None:
    small, large = report.form.size(500), report.form.size(10)
    large_bytes = LARGE_BYTES if large == 10 else LARGE_BYTES // 10
    with peers.seaweed() as server:
        new_bucket = _of_its_own if report.form.judged else _in(server)
        for case in (
            Case(f"{small} files of 1 MB", small, SMALL_BYTES),
            Case(f"{large} files of {large_bytes // 1_000_000} MB", large, large_bytes),
        ):
            with tempfile.TemporaryDirectory(prefix="upload-") as name:
                _measure(report, case, Path(name), new_bucket)


def _measure(report: Report, case: Case, folder: Path, new_bucket: NewBucket) -> None:
    source = folder / "source"
    make_sounds(source, case)
    contestants: dict[str, Callable[[Bucket], Reading]] = {
        "rclone": lambda bucket: _rclone(source, case, bucket),
        "aws s3 cp": lambda bucket: _aws(source, case, bucket),
        "soundkeep": lambda bucket: _soundkeep(source, case, bucket, folder / "data"),
    }
    gates = [
        Gate("wall time of the better of them", _wall_of_the_better(), at_most=1.3),
        Gate("peak memory in MB", peak_megabytes("soundkeep"), at_most=200),
    ]
    in_turn = {name: _into(new_bucket, send) for name, send in contestants.items()}
    report.add(case.name, interleave(report.form, in_turn), gates)


@contextmanager
def _of_its_own() -> Iterator[Bucket]:
    with peers.seaweed() as server:
        yield server.new_bucket()


def _in(server: SeaweedFS) -> NewBucket:
    @contextmanager
    def one_of_many() -> Iterator[Bucket]:
        yield server.new_bucket()

    return one_of_many


def _into(new_bucket: NewBucket, send: Callable[[Bucket], Reading]) -> Callable[[], Reading]:
    def sent() -> Reading:
        with new_bucket() as bucket:
            return send(bucket)

    return sent


def _wall_of_the_better() -> Figure:
    def figure(round_: Round) -> float:
        others = (round_["rclone"].wall_seconds, round_["aws s3 cp"].wall_seconds)
        return round_["soundkeep"].wall_seconds / min(others)

    return figure


def _rclone(source: Path, case: Case, bucket: Bucket) -> Reading:
    return command(peers.rclone("copy", str(source), peers.remote(bucket, "copied")), case.files)


def _aws(source: Path, case: Case, bucket: Bucket) -> Reading:
    own = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    environment = own | {
        "AWS_ACCESS_KEY_ID": bucket.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.credentials.secret_key,
        "AWS_DEFAULT_REGION": bucket.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    target = f"s3://{bucket.name}/copied"
    options = ["--endpoint-url", bucket.endpoint, "s3", "cp", "--recursive", "--only-show-errors"]
    argv = [sys.executable, str(BIN / "aws"), *options, str(source), target]
    return command(argv, case.files, environment)


def _soundkeep(source: Path, case: Case, bucket: Bucket, data: Path) -> Reading:
    environment = our_environment(
        data,
        STORES=json.dumps({"bucket": store_table(bucket)}),
        POLICY__KEEP='["bucket"]',
        LIMITS__FILE_BYTES=str(2 * LARGE_BYTES),
        LIMITS__DECODE_SECONDS="120",
    ) | credentials(bucket)
    program = str(BIN / "soundkeep")
    imported = command([program, "import", str(source)], case.files, environment)
    command([program, "check"], case.files, environment)
    shutil.rmtree(data)
    return imported


def store_table(bucket: Bucket) -> dict[str, object]:
    """A bucket as a store of our settings."""
    return {
        "kind": "s3",
        "bucket": bucket.name,
        "endpoint": bucket.endpoint,
        "region": bucket.region,
        "access_key": "env:BENCH_ACCESS_KEY",
        "secret_key": "env:BENCH_SECRET_KEY",
    }


def credentials(bucket: Bucket) -> dict[str, str]:
    """The environment that such a table names."""
    return {
        "BENCH_ACCESS_KEY": bucket.credentials.access_key,
        "BENCH_SECRET_KEY": bucket.credentials.secret_key,
    }


def make_sounds(folder: Path, case: Case) -> None:
    """Noise, which no compression anywhere makes smaller, as WAV files."""
    folder.mkdir()
    noise = random.Random(5)
    for index in range(case.files):
        with wave.open(str(folder / f"{index:04}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(44_100)
            sound.writeframes(noise.randbytes(case.file_bytes - 44))


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", upload_s3))
