"""A house that keeps its sounds in a bucket and on a disk, while the bucket has every trouble.

Whatever happens to the bucket: uploads are taken by the disk, every sound plays, the ledger says
what is true, an outage costs no row an attempt, one clear line says what is wrong, and once it is
over everything is in the bucket without anybody's help.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cli.commands import Program
from servers.fault_proxy import FaultProxy, fault_proxy, refuse, silence
from servers.quirky_s3 import ACCESS_KEY, BUCKET, SECRET_KEY, QuirkyS3, quirky_s3
from servers.soundkeep import KEY, Server, eventually
from soundkeep.stores.guarded import SURE_SECONDS
from sounds import wav

SIZE = 200_000

Json = dict[str, Any]


@dataclass
class House:
    """A running server, its bucket, and the proxy between them."""

    server: Server
    s3: QuirkyS3
    proxy: FaultProxy
    sounds: dict[str, bytes] = field(default_factory=dict)  # by the track's id

    def heal(self) -> None:
        self.s3.heals()
        self.proxy.heals()

    def upload(self) -> str:
        """A new sound, which the disk at least has taken; answers the track's id."""
        sound = wav(SIZE, seed=len(self.sounds))
        track = self.server.upload(f"{len(self.sounds)}.wav", sound)
        assert track["temporary"] is False
        self.sounds[track["id"]] = sound
        return str(track["id"])

    def copy(self, track_id: str) -> Json:
        """The row of its copy in the bucket."""
        copies = self.server.ask("GET", f"/api/tracks/{track_id}/copies").json["items"]
        return next(copy for copy in copies if copy["store"] == "bucket")

    def store(self) -> Json:
        found: Json = self.server.ask("GET", "/api/stores/bucket").json
        return found

    def is_out(self) -> bool:
        return bool(self.store()["state"] == "out")

    def settles(self, first: int = 0) -> None:
        """All is made good: each sound lies whole in the bucket, and the ledger knows."""
        eventually(lambda: self.server.check()["passed"])
        for track_id, sound in list(self.sounds.items())[first:]:
            assert self.server.sound(track_id) == sound
            copy = self.copy(track_id)
            assert copy["state"] == "present"
            assert self.s3.objects[copy["locator"]].body == sound


@contextmanager
def keeping(data: Path, endpoint: str, **settings: str) -> Iterator[Server]:
    """A server that keeps in `bucket` and on `disk`, and waits for nobody long."""
    bucket = {
        "kind": "s3",
        "bucket": BUCKET,
        "endpoint": endpoint,
        "access_key": "env:BUCKET_ACCESS_KEY",
        "secret_key": "env:BUCKET_SECRET_KEY",
        "timeout_seconds": 1.5,
        "sidecars": False,
    }
    stores = {"bucket": bucket, "disk": {"kind": "local", "path": "audio"}}
    server = Server(
        data,
        STORES=json.dumps(stores),
        POLICY__KEEP='["bucket", "disk"]',
        WORKER__PROBE_SECONDS="0.3",
        WORKER__POLL_SECONDS="0.3",
        WORKER__COVERAGE_SECONDS="0.3",
        READING__STALL_SECONDS="0.3",
        **settings,
    )
    server.environment |= {"BUCKET_ACCESS_KEY": ACCESS_KEY, "BUCKET_SECRET_KEY": SECRET_KEY}
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    data = tmp_path_factory.mktemp("house") / "data"
    with quirky_s3() as s3, fault_proxy(s3.port) as proxy, keeping(data, proxy.url) as server:
        house = House(server, s3, proxy)
        house.upload()
        house.settles()
        yield house
        house.settles()


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    """At rest before and after, with all that was ever uploaded."""
    known = len(shared.sounds)
    yield shared
    shared.heal()
    shared.settles(known)


def check_line(line: str) -> None:
    assert "bucket" in line
    assert "\n" not in line
    assert len(line) < 300
    for secret in (SECRET_KEY, ACCESS_KEY, "Signature=", "X-Amz-", "Traceback", "<html"):
        assert secret not in line


# --- the whole service is out --------------------------------------------------------------------

SERVICE = [
    "bucket missing",
    "not found without a word",
    "another region",
    "region in the signature",
    "access denied",
    "unknown access key",
    "wrong secret",
    "clock skew",
    "too many requests",
    "too many requests, retry after",
    "slow down",
    "internal error",
    "unavailable",
    "html",
    "html from a gateway",
]
NETWORK = {"connect refused": refuse(), "no answer": silence()}


def begin(house: House, outage: str) -> None:
    if outage in NETWORK:
        house.proxy.suffers(NETWORK[outage])
    else:
        house.s3.suffers(outage)


@pytest.mark.parametrize("outage", [*SERVICE, *NETWORK])
def test_an_outage_costs_no_attempt_and_is_made_good_by_itself(house: House, outage: str) -> None:
    begin(house, outage)
    first = house.upload()
    eventually(house.is_out)
    spent = house.copy(first)["attempts"]
    assert spent <= 1, "by the upload itself, before anybody knew of the outage"
    second = house.upload()
    for track_id, most in ((first, spent), (second, 0)):
        copy = house.copy(track_id)
        assert copy["state"] == "wanted"
        assert copy["attempts"] <= most, "what the upload itself had begun may be given back"
        assert house.server.sound(track_id) == house.sounds[track_id]
    earlier = next(iter(house.sounds))
    assert house.copy(earlier)["state"] == "present", "nothing is believed to be lost"
    assert house.server.sound(earlier) == house.sounds[earlier]
    check_line(house.store()["error"])
    assert not house.server.check()["passed"]
    house.heal()
    house.settles(-2)
    assert house.copy(first)["attempts"] == 0


def test_another_bucket_in_its_place_is_not_believed_and_not_written_to(house: House) -> None:
    right = house.s3.objects
    other = {"somebody/else": next(iter(right.values()))}
    forgotten_at = time.monotonic() + SURE_SECONDS  # so long is the last look at the marker good
    eventually(lambda: time.monotonic() > forgotten_at)
    house.s3.objects = dict(other)
    track_id = house.upload()
    eventually(house.is_out)
    assert house.copy(track_id)["state"] == "wanted"
    assert house.copy(next(iter(house.sounds)))["state"] == "present"
    assert house.s3.objects == other
    house.s3.objects = right
    house.settles(-1)


def test_the_program_says_in_one_line_what_is_wrong(house: House) -> None:
    house.s3.suffers("wrong secret")
    house.upload()
    eventually(house.is_out)
    status = Program(("--url", house.server.url, "--key", KEY))("status").stdout.decode()
    [line] = [line for line in status.splitlines() if line.startswith("bucket is out since")]
    check_line(line)
    assert "the access key or the secret key is wrong" in line
    assert "HTTP 403 SignatureDoesNotMatch" in line


# --- only puts fail ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["quota exceeded", "storage full", "internal error", "access denied", "slow down"]
)
def test_a_bucket_that_takes_nothing_more_is_not_out_and_keeps_what_it_has(
    house: House, fault: str
) -> None:
    house.s3.suffers(fault, methods=("PUT",))
    track_id = house.upload()
    eventually(lambda: house.copy(track_id)["last_error"] is not None)
    assert house.copy(track_id)["state"] == "wanted"
    check_line(house.copy(track_id)["last_error"])
    assert not house.is_out()
    [failing] = house.server.ask("GET", "/api/status").json["failing"]
    check_line(failing["last_error"])
    assert house.server.sound(track_id) == house.sounds[track_id]
    house.heal()
    house.server.ask("POST", "/api/copies/retry")
    house.settles(-1)


def test_a_put_that_was_applied_though_it_failed_is_put_again(house: House) -> None:
    house.s3.suffers("applied but failed", methods=("PUT",), of="/blobs/")
    track_id = house.upload()
    eventually(lambda: house.copy(track_id)["attempts"] > 0)
    assert house.copy(track_id)["state"] == "wanted", "until it is proven"
    house.heal()
    house.server.ask("POST", "/api/copies/retry")
    house.settles(-1)


def test_an_etag_that_is_no_md5_is_no_fault(house: House) -> None:
    house.s3.suffers("etag that is no md5")
    house.upload()
    house.settles(-1)


# --- there is no S3 at all -----------------------------------------------------------------------


@contextmanager
def plain_http() -> Iterator[str]:
    """The address, as https, of somebody who does not speak TLS."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_answer_all, args=(listener,))
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    listener.close()


def _answer_all(listener: socket.socket) -> None:
    while True:
        try:
            link, _ = listener.accept()
        except OSError:
            return
        with link:
            link.recv(1000)
            link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_wrong_endpoint_is_said_and_made_good_by_the_right_one(tmp_path: Path) -> None:
    data, sounds = tmp_path / "data", dict[str, bytes]()
    with quirky_s3() as s3, fault_proxy(s3.port) as proxy, plain_http() as no_tls:
        for endpoint in ("http://soundkeep.invalid:9000", no_tls):
            with keeping(data, endpoint) as server:
                house = House(server, s3, proxy, sounds)
                house.upload()
                eventually(house.is_out)
                check_line(house.store()["error"])
                server.stop()
        with keeping(data, proxy.url) as server:
            House(server, s3, proxy, sounds).settles()
    assert len(sounds) == 2
