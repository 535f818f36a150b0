"""A store is emptied under the copy law, and forgotten when nobody needs it; no sound is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands import Program, program, serving
from servers.soundkeep import Answer, Json, Server, eventually, running
from sounds import wav

PROMPT = {"WORKER__PROBE_SECONDS": "0.2", "WORKER__POLL_SECONDS": "0.2"}
STORES = {
    "disk": {"kind": "local", "path": "audio"},
    "backup": {"kind": "database"},
    "old": {"kind": "local", "path": "old"},
}


def settings(*keep: str, stores: dict[str, dict[str, str]] | None = None) -> dict[str, str]:
    return {"STORES": json.dumps(stores or STORES), "POLICY__KEEP": json.dumps(keep)}


def local(server: Server) -> Program:
    """The command line on the same data directory, with the server's settings."""
    own = {name: text for name, text in server.environment.items() if "SOUNDKEEP" in name}
    return program(server.data, **own)


def set_anew(server: Server, **values: str) -> None:
    server.stop()
    server.environment |= {f"SOUNDKEEP_{name}": text for name, text in values.items()}
    server.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "data", **PROMPT, **settings("old", "backup")) as server:
        yield server


def copies(server: Server, track_id: str) -> dict[str, str]:
    rows = server.ask("GET", f"/api/tracks/{track_id}/copies").json["items"]
    return {row["store"]: row["state"] for row in rows if "inbox@" not in row["store"]}


def store(server: Server, name: str) -> Json:
    found = server.ask("GET", f"/api/stores/{name}").json
    assert isinstance(found, dict)
    return found


def files(server: Server, folder: str) -> list[Path]:
    """What lies in a directory store, but for its marker."""
    every = (server.data / folder).rglob("*")
    return [path for path in every if path.is_file() and ".soundkeep" not in path.parts]


def names(server: Server, folder: str) -> set[Path]:
    return {path.relative_to(server.data / folder) for path in files(server, folder)}


def change(server: Server, store: str, *, draining: object) -> Answer:
    body = json.dumps({"draining": draining}).encode()
    return server.ask("PATCH", f"/api/stores/{store}", body)


def test_a_drained_store_ends_empty_and_every_sound_plays_from_the_others(server: Server) -> None:
    sounds = {f"{n}.wav": wav(60_000 + n, seed=n) for n in range(5)}
    tracks = {server.upload(path, sound)["id"]: sound for path, sound in sounds.items()}
    eventually(lambda: server.check()["passed"])
    set_anew(server, **settings("old", "backup", "disk"))
    answer = change(server, "old", draining=True)
    assert answer.status == 200
    assert answer.json["draining_since"]
    for track_id, sound in tracks.items():
        eventually(lambda one=track_id: set(copies(server, one)) == {"backup", "disk"})
        assert server.sound(track_id) == sound
    assert files(server, "old") == [], "the sidecars went with the sounds"
    eventually(lambda: server.check()["passed"])

    late = server.upload("late.wav", wav(50_000, seed=9))
    eventually(lambda: set(copies(server, late["id"])) == {"backup", "disk"})
    refused = server.ask(
        "POST", f"/api/tracks/{late['id']}/sync", json.dumps({"store": "old"}).encode()
    )
    assert (refused.status, refused.json["code"]) == (409, "store_drains")

    change(server, "old", draining=False)
    eventually(lambda: set(copies(server, late["id"])) == {"backup", "disk", "old"})
    eventually(lambda: server.check()["passed"])
    assert names(server, "old") == names(server, "audio"), "each sound, and each sidecar"


def test_a_copy_that_nobody_else_has_stays_in_the_store_being_drained(server: Server) -> None:
    """The other store takes small sounds only: the large one has nowhere to go."""
    small = {**STORES, "backup": {"kind": "database", "max_bytes": "70000"}}
    set_anew(server, **settings("old", "backup", stores=small))
    large, little = wav(90_000, seed=1), wav(40_000, seed=2)
    kept, goes = server.upload("large.wav", large)["id"], server.upload("little.wav", little)["id"]
    eventually(lambda: server.check()["passed"])
    done = local(server)("stores", "drain", "old").stdout.decode()
    assert "old is being drained" in done
    eventually(lambda: set(copies(server, goes)) == {"backup"})
    eventually(lambda: "not_enough_copies" in local(server)("status", "--failed").stdout.decode())
    assert copies(server, kept) == {"old": "present"}
    assert any("tracks" in path.parts for path in files(server, "old")), "and so does its sidecar"
    assert server.sound(kept) == large

    local(server)("stores", "resume", "old")
    eventually(lambda: set(copies(server, goes)) == {"backup", "old"})
    assert store(server, "old")["draining_since"] is None


def test_the_last_store_for_private_tracks_cannot_be_drained(server: Server) -> None:
    assert change(server, "old", draining=True).status == 200
    refused = change(server, "backup", draining=True)
    assert (refused.status, refused.json["code"]) == (409, "store_needed")
    assert change(server, "nope", draining=True).status == 404
    assert change(server, "old", draining="yes").status == 400
    assert store(server, "backup")["draining_since"] is None


def test_a_store_is_forgotten_only_when_it_is_not_needed(server: Server) -> None:
    sound = wav(60_000, seed=3)
    track_id = server.upload("a.wav", sound)["id"]
    eventually(lambda: server.check()["passed"])
    local(server)("stores", "forget", "old", fails=1)  # it is in use
    remaining = {name: STORES[name] for name in ("disk", "backup")}
    set_anew(server, **settings("backup", stores=remaining))
    assert "old" in copies(server, track_id)
    held = local(server).json("stores", "forget", "old")
    assert (held["forgotten"], held["needed_copies"]) == (True, 0)
    assert set(copies(server, track_id)) == {"backup"}
    assert server.sound(track_id) == sound
    assert b"knows no store" in local(server)("stores", "forget", "old", fails=2).stderr


def test_what_would_be_lost_with_a_store_is_named_before_it_is_forgotten(server: Server) -> None:
    set_anew(server, **settings("old"))
    track_id = server.upload("only.wav", wav(60_000, seed=4))["id"]
    eventually(lambda: server.check()["passed"])
    eventually(lambda: list(copies(server, track_id)) == ["old"])
    server.stop()
    shutil.rmtree(server.data / "inbox")
    server.environment["SOUNDKEEP_INBOX__LINGER_SECONDS"] = "0"
    remaining = {name: STORES[name] for name in ("disk", "backup")}
    set_anew_stopped = settings("backup", stores=remaining)
    server.environment |= {f"SOUNDKEEP_{name}": text for name, text in set_anew_stopped.items()}
    run = local(server)
    held = run.json("stores", "forget", "old", fails=1)
    assert not held["forgotten"]
    [needed] = [one for one in held["needed"] if one["tracks"] == [track_id]]
    assert needed["others"] == 0
    assert "only.wav" in run("stores", "forget", "old", fails=1).stdout.decode()
    assert run.json("show", track_id)["storage_locations"]["old"]["state"] == "present"
    assert run.json("stores", "forget", "old", "--execute")["forgotten"]
    assert "old" not in run.json("show", track_id)["storage_locations"]
    server.start()


def test_the_inbox_of_a_lost_host_is_forgotten_with_what_it_alone_had(tmp_path: Path) -> None:
    run = program(tmp_path / "data", SOUNDKEEP_HOST_NAME="lost")
    run("add", "-", "--id", "safe", given=wav(60_000, seed=5))
    run("stores", "forget", "inbox@lost", fails=1)
    shutil.rmtree(tmp_path / "data/inbox")
    here = program(tmp_path / "data", SOUNDKEEP_HOST_NAME="here")
    held = here.json("stores", "forget", "inbox@lost")
    assert (held["copies"], held["needed_copies"], held["forgotten"]) == (1, 0, True)
    assert set(here.json("show", "safe")["storage_locations"]) == {"disk", "backup"}


@pytest.mark.parametrize("options", [(), ("--no-worker",)])
def test_the_inbox_of_a_host_that_still_serves_is_not_forgotten(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    data = tmp_path / "data"
    of_its_own = str(tmp_path / "inbox")
    here = program(data, SOUNDKEEP_HOST_NAME="here", SOUNDKEEP_INBOX__PATH=of_its_own)
    there = program(data, SOUNDKEEP_HOST_NAME="there")
    with serving(data, *options, SOUNDKEEP_HOST_NAME="there"):
        there("work", "--until-idle")  # which ends, and does not speak for the server
        for how in ((), ("--execute",)):
            told = here("stores", "forget", "inbox@there", *how, fails=1).stderr.decode()
            assert "inbox@there is in use" in told
    assert here.json("stores", "forget", "inbox@there")["forgotten"], "it stopped"
