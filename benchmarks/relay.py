"""Ranges of private sound that lies in a bucket: through Soundkeep, verified, and through nginx.

Both fetch from the same SeaweedFS. nginx passes on a signed URL and looks at nothing; Soundkeep
checks the key, fetches whole chunks and hashes each before a byte of it is sent, with nothing in
memory (cold) and with the chunk cache it has by default (warm).
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import peers
from harness import (
    Gate,
    Report,
    cpu_reached,
    free_port,
    interleave,
    our_environment,
    run,
    serving,
    watch,
)
from load import Ask, ask, exchange
from servers.s3_plain import Bucket
from soundkeep.stores.s3_signing import Address, Signer

SERVER = [str(Path(sys.executable).parent / "soundkeep"), "serve"]
KEY = "benchmark-key-of-no-secret"
BEARER = {"Authorization": f"Bearer {KEY}"}
TRACKS = 8
SOUND_BYTES = 6_000_000
START = 100_000  # no chunk begins here, nor does one end where these ranges do
SIGNED_SECONDS = 24 * 3600
ALONE_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class Case:
    """A length of range, how often it is asked for in a round, and what must be reached."""

    name: str
    length: int
    times: int
    at_least: float
    warm: bool = False


CASES = (
    Case("64 KB ranges, cold", 64 * 1024, 4_000, 0.2),
    Case("64 KB ranges, warm", 64 * 1024, 8_000, 0.5, warm=True),
    Case("1 MB ranges, cold", 1024 * 1024, 1_600, 0.7),
    Case("5 MB ranges, cold", 5 * 1024 * 1024, 400, 0.7),
)


def relay(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="relay-") as name, peers.seaweed() as origin:
        folder = Path(name)
        sounds = _make_sounds(folder)
        bucket = origin.new_bucket()
        for warm in (False, True):
            data = folder / ("warm" if warm else "cold")
            prefix = data.name
            with _soundkeep(data, bucket, prefix, warm=warm) as (pid, port):
                signed = [_upload(port, bucket, prefix, sound) for sound in sounds]
                _until_alone(port, sounds)
                with peers.nginx_before(urlsplit(bucket.endpoint).netloc) as nginx:
                    for case in CASES:
                        if case.warm == warm:
                            _measure(report, case, sounds, (nginx, signed), (pid, port))


def _measure(
    report: Report,
    case: Case,
    sounds: list[Path],
    peer: tuple[peers.Nginx, list[str]],
    ours: tuple[int, int],
) -> None:
    nginx, signed = peer
    pid, port = ours
    ranges = {"Range": f"bytes={START}-{START + case.length - 1}"}
    for number, sound in enumerate(sounds):
        wanted = sound.read_bytes()[START : START + case.length]
        _compare(nginx.port, signed[number], ranges, wanted)
        _compare(port, _target(sound), ranges | BEARER, wanted)
    times = report.form.size(case.times // TRACKS)

    def asks(targets: list[str], headers: dict[str, str]) -> list[Ask]:
        return [
            Ask(target, times, headers=headers, status=206, length=case.length)
            for target in targets
        ]

    theirs, mine = asks(signed, ranges), asks([_target(s) for s in sounds], ranges | BEARER)
    contestants = {
        "nginx": lambda: watch(nginx.pid, lambda: ask(nginx.port, theirs)),
        "soundkeep": lambda: watch(pid, lambda: ask(port, mine)),
    }
    says = "of nginx's cost, by CPU"
    gate = Gate(says, cpu_reached("soundkeep", of="nginx"), at_least=case.at_least)
    report.add(case.name, interleave(report.form, contestants), [gate])


def _make_sounds(folder: Path) -> list[Path]:
    """Noise, which no compression anywhere makes smaller, as WAV files."""
    noise = random.Random(1)
    files = [folder / f"{number}.wav" for number in range(TRACKS)]
    for file in files:
        with wave.open(str(file), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(44_100)
            sound.writeframes(noise.randbytes(SOUND_BYTES))
    return files


@contextmanager
def _soundkeep(data: Path, bucket: Bucket, prefix: str, *, warm: bool) -> Iterator[tuple[int, int]]:
    """The server as people run it, with the bucket as its only store."""
    port = free_port()
    store = {
        "kind": "s3",
        "bucket": bucket.name,
        "endpoint": bucket.endpoint,
        "region": bucket.region,
        "prefix": prefix,
        "access_key": "env:BENCH_ACCESS_KEY",
        "secret_key": "env:BENCH_SECRET_KEY",
        "key": "{track_id}",
    }
    environment = our_environment(
        data,
        ADMIN_KEY=KEY,
        STORES=json.dumps({"bucket": store}),
        POLICY__KEEP='["bucket"]',
        INBOX__LINGER_SECONDS="0",
        INBOX__SWEEP_SECONDS="5",
        **({} if warm else {"READING__CACHE_BYTES": "0"}),
    ) | {
        "BENCH_ACCESS_KEY": bucket.credentials.access_key,
        "BENCH_SECRET_KEY": bucket.credentials.secret_key,
    }
    with serving([*SERVER, "--port", str(port)], port, environment) as process:
        yield process.pid, port


def _upload(port: int, bucket: Bucket, prefix: str, sound: Path) -> str:
    """Keeps a sound; answers the signed target of its object."""
    target = f"/api/tracks?id=sound-{sound.stem}&path={sound.name}&visibility=private"
    status, answer = exchange(port, "POST", target, BEARER, sound.read_bytes())
    if status != 201:
        raise RuntimeError(f"the upload was answered {status}: {answer!r}")
    address = Address.of(bucket.endpoint, bucket.name, "path")
    url = Signer(address, bucket.credentials, bucket.region).url(
        address.path(f"{prefix}/sound-{sound.stem}"), SIGNED_SECONDS
    )
    return url.removeprefix(bucket.endpoint)


def _until_alone(port: int, sounds: list[Path]) -> None:
    """Waits until the bucket alone has each sound."""
    deadline = time.monotonic() + ALONE_WITHIN_SECONDS
    for sound in sounds:
        while set(_stores(port, sound)) != {"bucket"}:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{sound.name} still lies in {_stores(port, sound)}")
            time.sleep(0.1)


def _stores(port: int, sound: Path) -> list[str]:
    _, answer = exchange(port, "GET", f"/api/tracks/sound-{sound.stem}", BEARER)
    return list(json.loads(answer)["storage_locations"])


def _target(sound: Path) -> str:
    return f"/audio/sound-{sound.stem}.wav"


def _compare(port: int, target: str, headers: dict[str, str], wanted: bytes) -> None:
    status, body = exchange(port, "GET", target, headers)
    if status != 206 or body != wanted:
        raise RuntimeError(f"{target} on port {port}: {status}, {len(body)} bytes, not the file's")


if __name__ == "__main__":
    sys.exit(run(__doc__ or "", relay))
