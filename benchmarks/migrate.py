"""Sounds from one bucket to another: migrated by Soundkeep, and copied by rclone.

Both buckets are in one SeaweedFS, and both programs read every byte and write it: rclone is told
not to leave the copying to the server, which Soundkeep cannot do either, since it verifies what it
reads chunk by chunk and has the server check the SHA-256 of what it writes. rclone compares sizes
and MD5 sums after it. Ours ends when every copy is recorded as proven.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
from harness import (
    Gate,
    Reading,
    Report,
    command,
    cpu_reached,
    interleave,
    our_environment,
    rate_reached,
    run,
)
from servers.s3_plain import Bucket
from servers.seaweed import SeaweedFS
from upload_s3 import Case, credentials, make_sounds, store_table

SOUNDKEEP = str(Path(sys.executable).parent / "soundkeep")
FILE_BYTES = 1_000_000


def migrate(report: Report) -> None:
    count = report.form.size(1000)
    case = Case(f"{count} files of 1 MB", count, FILE_BYTES)
    with peers.seaweed() as server, _kept(server, case) as keep:
        contestants = {
            "rclone": lambda: _rclone(keep, server.new_bucket()),
            "soundkeep": lambda: _soundkeep(keep, server.new_bucket()),
        }
        gates = [
            Gate("rate against rclone", rate_reached("soundkeep", "rclone"), at_least=0.7),
            Gate("CPU of rclone's", cpu_reached("soundkeep", "rclone")),
        ]
        report.add(case.name, interleave(report.form, contestants), gates)


@dataclass(frozen=True)
class Keep:
    """A data directory whose sounds lie in one bucket."""

    data: Path
    source: Bucket
    files: int
    rounds: Iterator[int]

    def environment(self, **stores: Bucket) -> dict[str, str]:
        """rclone copies sounds only, so nothing lies beside ours; and no inbox has them still."""
        tables = {name: {**store_table(each), "sidecars": False} for name, each in stores.items()}
        own = our_environment(
            self.data,
            STORES=json.dumps(tables),
            POLICY__KEEP='["source"]',
            INBOX__LINGER_SECONDS="0",
        )
        return own | credentials(self.source)


@contextmanager
def _kept(server: SeaweedFS, case: Case) -> Iterator[Keep]:
    with tempfile.TemporaryDirectory(prefix="migrate-") as name:
        folder = Path(name)
        make_sounds(folder / "sounds", case)
        keep = Keep(folder / "data", server.new_bucket(), case.files, itertools.count())
        imported = [SOUNDKEEP, "import", str(folder / "sounds")]
        command(imported, case.files, keep.environment(source=keep.source))
        yield keep


def _rclone(keep: Keep, target: Bucket) -> Reading:
    source, copied = peers.remote(keep.source, "blobs"), peers.remote(target, "blobs")
    return command(peers.rclone("copy", "--disable", "copy", source, copied), keep.files)


def _soundkeep(keep: Keep, target: Bucket) -> Reading:
    """Each round has a store of its own: the catalog remembers what the last one was given."""
    name = f"target-{next(keep.rounds)}"
    environment = keep.environment(**{"source": keep.source, name: target})
    return command([SOUNDKEEP, "migrate", "source", name, "--execute"], keep.files, environment)


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", migrate))
