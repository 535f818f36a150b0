"""What was acknowledged is kept: through outages, unmounted stores, kill -9 and restarts."""

from __future__ import annotations

import hashlib
import http.client
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from servers.soundkeep import KEY, Server, eventually, running
from sounds import wav

SOUND = wav(300_000, seed=7)


def put_away(server: Server) -> None:
    """Both stores are gone at once, as when a disk is unmounted."""
    (server.data / "audio").rename(server.data / "audio-away")
    for file in server.data.glob("backup.db*"):
        file.rename(server.data / f"away-{file.name}")


def put_back(server: Server) -> None:
    for file in server.data.glob("backup.db*"):
        file.unlink()
    (server.data / "audio-away").rename(server.data / "audio")
    for file in server.data.glob("away-backup.db*"):
        file.rename(server.data / file.name.removeprefix("away-"))


def uploads(server: Server) -> list[Path]:
    """The files in the inbox; its directory goes with the last of them."""
    return list((server.data / "inbox").glob("uploads/*"))


def test_a_fresh_server_holds_a_public_tune_that_plays_without_a_key(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        [tune] = server.ask("GET", "/api/tracks").json["items"]
        assert (tune["visibility"], tune["media_type"]) == ("public", "audio/mpeg")
        heard = server.ask("GET", f"/audio/{tune['id']}.mp3", key=None)
        assert hashlib.sha256(heard.body).hexdigest() == tune["digest"]
        assert tune["title"].encode() in server.ask("GET", "/", key=None).body
        assert server.stop() == 0
        server.start()
        assert len(server.ask("GET", "/api/tracks").json["items"]) == 1, "greeted only once"


def test_an_upload_while_both_stores_are_out_plays_and_is_copied_when_they_return(
    tmp_path: Path,
) -> None:
    with running(
        tmp_path / "data",
        POLICY__ACK_SECONDS="3",
        WORKER__PROBE_SECONDS="0.5",
        INBOX__LINGER_SECONDS="3",
        INBOX__SWEEP_SECONDS="1",
    ) as server:
        eventually(lambda: server.check()["passed"])
        put_away(server)
        began = time.monotonic()
        track = server.upload("a.wav", SOUND)
        assert time.monotonic() - began < 3 + 5
        assert track["temporary"] is True
        assert track["ack"]["have"] == 0
        assert server.sound(track["id"]) == SOUND
        stores = {s["name"]: s["state"] for s in server.ask("GET", "/api/stores").json["items"]}
        eventually(lambda: states(server) == {"disk": "out", "backup": "out"})
        assert set(stores) >= {"disk", "backup"}

        put_back(server)
        eventually(lambda: server.check()["passed"])
        settled = time.monotonic()
        assert (server.data / "audio" / "blobs" / track["digest"]).read_bytes() == SOUND
        assert uploads(server), "the inbox copy lingers after every placed copy is present"
        eventually(lambda: not uploads(server))
        assert time.monotonic() - settled > 1.5, "and not a moment less than it should"
        assert server.sound(track["id"]) == SOUND


def states(server: Server) -> dict[str, str]:
    found = server.ask("GET", "/api/stores").json["items"]
    return {s["name"]: s["state"] for s in found if s["name"] in ("disk", "backup")}


def test_an_unmounted_directory_is_not_an_empty_one(tmp_path: Path) -> None:
    with running(tmp_path / "data", WORKER__PROBE_SECONDS="0.5") as server:
        track = server.upload("a.wav", SOUND)
        eventually(lambda: server.check()["passed"])
        audio = server.data / "audio"
        audio.rename(server.data / "mounted")
        audio.mkdir()

        assert server.sound(track["id"]) == SOUND
        other = server.upload("b.wav", wav(200_000, seed=8))
        assert other["ack"]["have"] == 1, "the database took it"
        eventually(lambda: states(server)["disk"] == "out")
        assert list(audio.iterdir()) == [], "nothing is written under a mount point"
        copies = server.ask("GET", f"/api/tracks/{track['id']}/copies").json["items"]
        assert {c["store"]: c["state"] for c in copies}["disk"] == "present", "nothing is lost"

        audio.rmdir()
        (server.data / "mounted").rename(audio)
        eventually(lambda: server.check()["passed"])
        assert (audio / "blobs" / other["digest"]).exists()


def test_a_store_removed_from_the_settings_loses_nothing_and_comes_back(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        track = server.upload("a.wav", SOUND)
        eventually(lambda: server.check()["passed"])
        server.stop()
        server.environment["SOUNDKEEP_POLICY__KEEP"] = '["disk"]'
        server.start()
        eventually(lambda: wishes(server, track["id"])["backup"] == "rest")
        assert server.check()["passed"]
        (server.data / "audio" / "blobs" / track["digest"]).unlink()
        assert server.sound(track["id"]) == SOUND
        server.stop()
        del server.environment["SOUNDKEEP_POLICY__KEEP"]
        server.start()
        eventually(lambda: wishes(server, track["id"])["backup"] == "keep")
        assert server.sound(track["id"]) == SOUND


def wishes(server: Server, track_id: str) -> dict[str, str]:
    copies = server.ask("GET", f"/api/tracks/{track_id}/copies").json["items"]
    return {copy["store"]: copy["wish"] for copy in copies}


def test_a_deleted_track_is_gone_everywhere_and_its_receipt_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        track = server.upload("a.wav", SOUND, id="my-track")
        eventually(lambda: server.check()["passed"])
        assert server.ask("DELETE", "/api/tracks/my-track").status in (200, 202)
        assert server.ask("GET", "/audio/my-track").status == 404
        eventually(lambda: server.ask("GET", "/api/tracks/my-track/receipt").json["complete"])
        receipt = server.ask("GET", "/api/tracks/my-track/receipt").json
        assert {line["outcome"] for line in receipt["stores"]} == {"removed"}
        assert not (server.data / "audio" / "blobs" / track["digest"]).exists()
        assert all(file.read_bytes() != SOUND for file in uploads(server))
        other = server.ask("POST", "/api/tracks?id=my-track", wav(1000, seed=9))
        assert other.json["code"] == "id_taken"


class Uploader(threading.Thread):
    """Uploads until the server is gone, and remembers what was acknowledged."""

    def __init__(self, server: Server, seed: int) -> None:
        super().__init__()
        self.server = server
        self.seeds = iter(range(seed, seed + 500))
        self.acknowledged: dict[str, int] = {}

    def run(self) -> None:
        for seed in self.seeds:
            try:
                track = self.server.upload(f"{seed}.wav", sound_of(seed))
            except (OSError, AssertionError, ValueError):
                return
            self.acknowledged[track["id"]] = seed


def sound_of(seed: int) -> bytes:
    """Made anew when it is compared: hundreds of kills leave thousands of sounds."""
    return wav(20_000 + 2 * (seed % 300_000), seed)


def kill_and_restart(tmp_path: Path, times: int) -> None:
    moments = random.Random(times)
    server = Server(tmp_path / "data", WORKER__POLL_SECONDS="0.5")
    server.start()
    kept: dict[str, int] = {}
    try:
        for number in range(times):
            uploaders = [Uploader(server, 10_000 * (2 * number + k + 1)) for k in range(2)]
            for uploader in uploaders:
                uploader.start()
            time.sleep(moments.uniform(0.1, 1.5))  # the moment of the kill is the point
            server.kill()
            just_kept = {}
            for uploader in uploaders:
                uploader.join(60)
                just_kept |= uploader.acknowledged
            server.start()
            eventually(lambda: server.check()["passed"], 60)
            for track_id, seed in just_kept.items():
                assert server.sound(track_id) == sound_of(seed)
            kept |= just_kept
        for track_id, seed in kept.items():
            assert server.sound(track_id) == sound_of(seed)
    finally:
        if server.process.poll() is None:
            server.kill()
    assert kept, "something was acknowledged at all"
    for seed in kept.values():
        sound = sound_of(seed)
        digest = hashlib.sha256(sound).hexdigest()
        assert (server.data / "audio" / "blobs" / digest).read_bytes() == sound
    shutil.rmtree(server.data)


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    kill_and_restart(tmp_path, 10)


@pytest.mark.drill
def test_kill_9_three_hundred_times_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    kill_and_restart(tmp_path, 300)


def test_sigterm_lets_a_running_stream_finish(tmp_path: Path) -> None:
    sound = wav(40_000_000, seed=3)
    with running(tmp_path / "data") as server:
        track = server.upload("long.wav", sound)
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        key = {"Authorization": f"Bearer {KEY}"}
        connection.request("GET", f"/audio/{track['id']}", headers=key)
        answer = connection.getresponse()
        heard = answer.read(100_000)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        heard += answer.read()
        connection.close()
        stopping.join(60)
        assert heard == sound
        assert server.process.returncode == 0
