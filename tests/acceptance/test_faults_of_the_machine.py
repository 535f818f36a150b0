"""Disks that are full or fail, a catalog that is locked, an end that was asked for: said plainly,
nothing half-kept, and once the fault is gone everything goes on by itself."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from servers.disks import fill, small_disk
from servers.machine import FAULTS, PROGRAM, Faults, Machine
from servers.soundkeep import KEY, Answer, Server, eventually
from sounds import wav

SOUND = wav(300_000, seed=11)
OTHER = wav(200_000, seed=12)
HEALTHY = Faults()
LITTLE = 100_000  # too little room for either

Json = dict[str, Any]


@contextmanager
def serving_on(
    data: Path, faults: Faults = HEALTHY, **settings: str
) -> Iterator[tuple[Server, Machine]]:
    """A real server on a machine that can be made to misbehave; at rest with its first tune."""
    data.parent.mkdir(parents=True, exist_ok=True)
    machine = Machine(data.parent / "faults.json")
    machine.suffers(faults)
    machine.log.touch()
    server = Server(data, WORKER__POLL_SECONDS="0.5", WORKER__COVERAGE_SECONDS="0.5", **settings)
    server.environment[FAULTS] = str(machine.file)
    server.program = PROGRAM
    server.start()
    try:
        eventually(lambda: server.check()["passed"])
        yield server, machine
    finally:
        if server.process.poll() is None:
            server.kill()


def post(server: Server, sound: bytes, path: str = "a.wav") -> Answer:
    return server.ask("POST", f"/api/tracks?path={path}", sound)


def post_in_pieces(server: Server, sound: bytes, path: str = "a.wav") -> Answer:
    """An upload that does not say how long it is."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    pieces = iter([sound[:50_000], sound[50_000:]])
    headers = {"Authorization": f"Bearer {KEY}", "Transfer-Encoding": "chunked"}
    with closing(connection):
        connection.request("POST", f"/api/tracks?path={path}", pieces, headers, encode_chunked=True)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def kept(server: Server) -> tuple[set[str], set[Path]]:
    """The tracks there are, and what lies in the inbox."""
    tracks = {track["id"] for track in server.ask("GET", "/api/tracks").json["items"]}
    return tracks, {path for path in (server.data / "inbox").rglob("*") if path.is_file()}


def store(server: Server, name: str) -> Json:
    found: Json = server.ask("GET", f"/api/stores/{name}").json
    return found


def file_of(server: Server, track: Json, folder: str = "audio") -> Path:
    return server.data / folder / "blobs" / track["digest"]


# --- fsync ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["inbox/.soundkeep/tmp", "inbox/uploads"])
def test_an_upload_whose_fsync_fails_is_refused_and_leaves_nothing(
    tmp_path: Path, where: str
) -> None:
    with serving_on(tmp_path / "data") as (server, machine):
        before = kept(server)
        machine.suffers(Faults(fsync_fails_in=[str(server.data / where)]))
        for attempt in range(1, 4):
            answer = post(server, SOUND)
            assert (answer.status, answer.json["code"]) == (503, "write_failed")
            assert "Input/output error" in answer.json["detail"]
            assert kept(server) == before
            assert len(machine.failed_fsyncs()) == attempt, "a failed fsync is not tried again"

        machine.heals()
        answer = post(server, SOUND)
        assert answer.status == 201
        assert server.sound(answer.json["id"]) == SOUND
        eventually(lambda: server.check()["passed"])


def test_a_store_whose_fsync_fails_gets_the_sound_anew_once_it_works(tmp_path: Path) -> None:
    with serving_on(tmp_path / "data") as (server, machine):
        machine.suffers(Faults(fsync_fails_in=[str(server.data / "audio")]))
        track = server.upload("a.wav", SOUND)
        assert track["temporary"] is False
        assert track["storage_locations"]["backup"]["state"] == "present"
        assert track["storage_locations"]["disk"]["state"] == "wanted"
        eventually(lambda: len(drafts(machine)) >= 2)
        assert store(server, "disk")["failing"] == 1
        [failing] = server.ask("GET", "/api/status").json["failing"]
        assert (failing["store"], failing["state"]) == ("disk", "wanted")
        assert "Input/output error" in failing["last_error"]
        assert server.sound(track["id"]) == SOUND

        machine.heals()
        server.ask("POST", "/api/copies/retry")
        eventually(lambda: server.check()["passed"])
        assert file_of(server, track).read_bytes() == SOUND
        assert len(drafts(machine)) == len(set(drafts(machine))), "each failed once"
        assert not list((server.data / "audio" / ".soundkeep" / "tmp").iterdir())


def drafts(machine: Machine) -> list[Path]:
    """The files, not the directories, whose fsync failed."""
    return [path for path in machine.failed_fsyncs() if path.parent.name == "tmp"]


# --- a full disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [post, post_in_pieces])
def test_an_upload_into_a_full_inbox_is_refused_and_leaves_nothing(
    tmp_path: Path, how: Any
) -> None:
    data = tmp_path / "data"
    with (
        small_disk(data / "inbox", 4_000_000) as inbox,
        serving_on(data, INBOX__MIN_FREE_BYTES="0") as (server, _),
    ):
        before = kept(server)
        filler = fill(inbox, leaving_bytes=LITTLE)
        for _ in range(3):
            answer = how(server, SOUND)
            assert (answer.status, answer.json["code"]) == (507, "disk_full")
            tracks, files = kept(server)
            assert (tracks, files - {filler}) == before

        filler.unlink()
        answer = how(server, SOUND)
        assert answer.status == 201
        assert server.sound(answer.json["id"]) == SOUND


def test_below_the_room_to_be_left_free_uploads_are_refused_before_they_are_read(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with (
        small_disk(data / "inbox", 4_000_000) as inbox,
        serving_on(data, INBOX__MIN_FREE_BYTES="2000000") as (server, _),
    ):
        before = kept(server)
        filler = fill(inbox, leaving_bytes=1_900_000)
        answer = post(server, SOUND)
        assert (answer.status, answer.json["code"]) == (507, "disk_full")
        filler.unlink()
        assert kept(server) == before
        assert post(server, SOUND).status == 201


@pytest.mark.parametrize("full", ["one store", "both stores"])
def test_a_full_store_is_said_and_gets_its_copy_once_there_is_room(
    tmp_path: Path, full: str
) -> None:
    data = tmp_path / "data"
    backup = "small/backup.db" if full == "both stores" else "backup.db"
    stores = {
        "disk": {"kind": "local", "path": "small/audio"},
        "backup": {"kind": "database", "path": backup},
    }
    with (
        small_disk(data / "small", 8_000_000) as disk,
        serving_on(data, STORES=json.dumps(stores), POLICY__ACK_SECONDS="3") as (server, _),
    ):
        filler = fill(disk, leaving_bytes=LITTLE)
        track = server.upload("a.wav", SOUND)
        assert track["temporary"] is (full == "both stores")
        assert server.sound(track["id"]) == SOUND
        eventually(lambda: failing(server))
        assert all("store_quota_exceeded" in error for error in failing(server).values())
        assert "disk" in failing(server)
        eventually(lambda: store(server, "disk")["failing"] == 1)
        assert store(server, "disk")["state"] == "up", "what fits is still taken"

        filler.unlink()
        eventually(lambda: server.check()["passed"])
        assert failing(server) == {}
        assert file_of(server, track, "small/audio").read_bytes() == SOUND
        assert server.sound(track["id"]) == SOUND


def failing(server: Server) -> dict[str, str]:
    found = server.ask("GET", "/api/status").json["failing"]
    return {copy["store"]: copy["last_error"] for copy in found}


def test_with_the_catalogs_disk_full_nothing_is_taken_in_and_everything_plays(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with small_disk(data / "small", 8_000_000) as disk:
        catalog = f"sqlite:///{disk / 'catalog.db'}"
        with serving_on(data, CATALOG=catalog) as (server, _):
            first = server.upload("first.wav", OTHER)
            eventually(lambda: server.check()["passed"])
            before = kept(server)
            filler = fill(disk, leaving_bytes=0)
            eventually(lambda: post(server, SOUND, "probe.wav").status == 507)
            refused = kept(server)
            for _ in range(3):
                answer = post(server, SOUND)
                assert (answer.status, answer.json["code"]) == (507, "disk_full")
                assert kept(server) == refused
            assert server.sound(first["id"]) == OTHER
            assert refused[0] >= before[0]

            filler.unlink()
            track = server.upload("a.wav", SOUND)
            assert server.sound(track["id"]) == SOUND
            eventually(lambda: server.check()["passed"])


# --- a locked catalog ----------------------------------------------------------------------------


@contextmanager
def locked(catalog: Path) -> Iterator[None]:
    """Another program that writes to the catalog and takes its time."""
    with closing(sqlite3.connect(catalog, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_while_the_catalog_is_locked_sounds_play_and_an_upload_waits(tmp_path: Path) -> None:
    with serving_on(tmp_path / "data") as (server, _):
        first = server.upload("first.wav", OTHER)
        eventually(lambda: server.check()["passed"])
        answers: list[Answer] = []
        uploading = threading.Thread(target=lambda: answers.append(post(server, SOUND)))
        with locked(server.data / "catalog.db"):
            _, before = kept(server)
            uploading.start()
            eventually(lambda: landed(server) - before)
            for _ in range(5):
                assert server.sound(first["id"]) == OTHER
                assert server.ask("GET", f"/api/tracks/{first['id']}").status == 200
            assert answers == []
        uploading.join(60)
        [answer] = answers
        assert answer.status == 201
        assert server.sound(answer.json["id"]) == SOUND
        eventually(lambda: server.check()["passed"])


def landed(server: Server) -> set[Path]:
    """The uploads that lie whole in the inbox."""
    return set((server.data / "inbox" / "uploads").iterdir())


def test_an_upload_that_waited_too_long_for_the_catalog_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with serving_on(tmp_path / "data", Faults(busy_seconds=0.5)) as (server, _):
        first = server.upload("first.wav", OTHER)
        eventually(lambda: server.check()["passed"])
        before = kept(server)
        with locked(server.data / "catalog.db"):
            for _ in range(3):
                answer = post(server, SOUND)
                assert (answer.status, answer.json["code"]) == (503, "catalog_unavailable")
                assert answer.headers["Retry-After"]
                assert kept(server) == before
            assert server.sound(first["id"]) == OTHER
        answer = post(server, SOUND)
        assert answer.status == 201
        assert server.sound(answer.json["id"]) == SOUND
        eventually(lambda: server.check()["passed"])


# --- an end that was asked for -------------------------------------------------------------------


def leases(server: Server) -> list[tuple[str, str]]:
    """The stores and keys of the copies that somebody says to be working on."""
    with closing(sqlite3.connect(server.data / "catalog.db", timeout=30)) as catalog:
        return list(catalog.execute("SELECT store, key FROM copies WHERE lease_token IS NOT NULL"))


@pytest.mark.parametrize("drain_seconds", ["0", "20"], ids=["cut short", "let finish"])
def test_sigterm_gives_every_lease_back_and_the_rest_is_done_after_the_next_start(
    tmp_path: Path, drain_seconds: str
) -> None:
    sounds = {f"{number}.wav": wav(100_000, seed=number) for number in range(12)}
    with serving_on(
        tmp_path / "data",
        POLICY__KEEP='["backup", "disk"]',  # the database acknowledges, the disk is the worker's
        HTTP__DRAIN_SECONDS=drain_seconds,
    ) as (server, machine):
        machine.suffers(Faults(fsync_is_slow_in=[str(server.data / "audio")], slow_seconds=1))
        tracks = {path: server.upload(path, sound) for path, sound in sounds.items()}
        eventually(lambda: "disk" in dict(leases(server)))
        assert server.stop() == 0
        assert leases(server) == []

        machine.heals()
        server.start()
        eventually(lambda: server.check()["passed"])
        for path, track in tracks.items():
            assert server.sound(track["id"]) == sounds[path]
            assert file_of(server, track).read_bytes() == sounds[path]
