"""Settings of a Soundkeep whose stores are buckets, and a client that plays from it in pieces."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from servers.s3_plain import Bucket
from servers.soundkeep import KEY, Json, Server, eventually

PIECE_BYTES = 64 * 1024
DATABASE: Json = {"kind": "database"}
DISK: Json = {"kind": "local", "path": "audio"}

# Copies in the inbox are files of this machine and would be read before any bucket.
LEAVES_THE_INBOX_AT_ONCE = {"INBOX__LINGER_SECONDS": "0", "INBOX__SWEEP_SECONDS": "0.2"}


def in_bucket(bucket: Bucket, folder: Path, *, endpoint: str | None = None, **more: object) -> Json:
    """The settings of a store in a bucket; its secrets are laid down in a folder."""
    credentials = {
        "access_key": bucket.credentials.access_key,
        "secret_key": bucket.credentials.secret_key,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, secret in credentials.items():
        (folder / name).write_text(secret)
    return {
        "kind": "s3",
        "bucket": bucket.name,
        "endpoint": endpoint or bucket.endpoint,
        **{name: f"file:{folder / name}" for name in credentials},
        **more,
    }


def keeping(**stores: Json) -> dict[str, str]:
    """The settings that keep every sound in these stores, read in this order."""
    return {"STORES": json.dumps(stores), "POLICY__KEEP": json.dumps(list(stores))}


def uploaded(server: Server, name: str, sound: bytes) -> Json:
    """A track that is in every store and no more in the inbox."""
    track = server.upload(name, sound)
    eventually(lambda: server.check()["passed"], 60)
    eventually(lambda: not list((server.data / "inbox").glob("uploads/*")))
    return track


@dataclass
class Heard:
    """What a client received, and the longest it waited for a piece."""

    pieces: list[bytes] = field(default_factory=list)
    longest_gap_seconds: float = 0.0

    @property
    def sound(self) -> bytes:
        return b"".join(self.pieces)


def _nothing(at: int) -> None:
    pass


def played(server: Server, track: Json, told: Callable[[int], None] = _nothing) -> Heard:
    """Plays a track to its end; `told` hears after each piece how many bytes have come."""
    heard, at = Heard(), 0
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    with closing(connection):
        connection.request(
            "GET", f"/audio/{track['id']}", headers={"Authorization": f"Bearer {KEY}"}
        )
        answer = connection.getresponse()
        assert answer.status == 200
        began = time.monotonic()
        while piece := answer.read(PIECE_BYTES):
            gap = time.monotonic() - began
            heard.longest_gap_seconds = max(heard.longest_gap_seconds, gap)
            heard.pieces.append(piece)
            at += len(piece)
            told(at)
            began = time.monotonic()
    return heard
