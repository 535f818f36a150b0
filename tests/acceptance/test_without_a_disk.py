"""D9: the machine is made anew with an empty disk, and every track plays."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servers.soundkeep import Server, eventually
from sounds import wav

FILES = 50
LEASE_SECONDS = 60  # worker.lease_seconds
WORDS = "What was said before the machine was made anew, is paid for once."


@pytest.fixture
def server(postgres_url: str, tmp_path: Path) -> Iterator[Server]:
    """Catalog and sounds lie in PostgreSQL; the data directory is the container's own."""
    server = Server(
        tmp_path / "container", CATALOG=postgres_url, POLICY__KEEP='["backup"]', HOST_NAME="web"
    )
    server.start()
    try:
        eventually(lambda: server.check()["passed"])  # the sample track has left the inbox
        yield server
    finally:
        server.kill()


def begin_anew(server: Server) -> None:
    """The container is killed, and another begins with an empty disk."""
    server.kill()
    shutil.rmtree(server.data)
    server.start()


def test_every_track_plays_after_the_whole_data_directory_was_lost(server: Server) -> None:
    sizes = random.Random(9)
    sounds = {
        f"book/{number:02}.wav": wav(sizes.randrange(1, 400_000), seed=number)
        for number in range(FILES)
    }
    with ThreadPoolExecutor(4) as callers:
        tracks = list(callers.map(server.upload, sounds, sounds.values()))
    assert all(track["ack"]["have"] >= 1 for track in tracks), "each was acknowledged elsewhere"
    said = server.ask("POST", "/api/speech", json.dumps({"text": WORDS}).encode()).json

    begin_anew(server)
    for track, sound in zip(tracks, sounds.values(), strict=True):
        assert server.sound(track["id"]) == sound
    again = server.ask("POST", "/api/speech", json.dumps({"text": WORDS}).encode()).json
    assert (again["cached"], again["key"], again["characters_paid"]) == (True, said["key"], 0)
    eventually(lambda: server.check()["passed"])
    assert len(server.ask("GET", "/api/tracks?prefix=book/").json["items"]) == FILES


def test_the_inbox_may_vanish_under_a_server_that_runs(server: Server) -> None:
    """Nobody can tell an inbox that was deleted from one that was unmounted: nothing is taken until
    the server is started again, and what is there plays on."""
    first = server.upload("first.wav", wav(60_000, seed=1))
    shutil.rmtree(server.data)
    assert server.sound(first["id"]) == wav(60_000, seed=1)
    refused = server.ask("POST", "/api/tracks?path=second.wav", wav(60_000, seed=2))
    assert (refused.status, refused.json["code"]) == (503, "write_failed")
    assert "inbox" in refused.json["detail"]

    server.kill()
    server.start()
    second = server.upload("second.wav", wav(60_000, seed=2))
    assert second["ack"]["have"] == 1
    assert server.sound(second["id"]) == wav(60_000, seed=2)
    eventually(lambda: server.check()["passed"])


def test_another_host_takes_over_and_the_inbox_of_the_lost_one_is_forgotten(
    server: Server,
) -> None:
    track = server.upload("one.wav", wav(60_000, seed=3))
    server.environment["SOUNDKEEP_HOST_NAME"] = "web-2"
    begin_anew(server)
    assert server.sound(track["id"]) == wav(60_000, seed=3)
    assert server.upload("two.wav", wav(60_000, seed=4))["ack"]["have"] == 1
    # What the lost host had just leased is another host's to do only when its leases end.
    eventually(lambda: server.check()["passed"], LEASE_SECONDS + 30)
