"""Other programs ask by signed requests and by triggers, and what was accepted is done."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.commands import program
from servers.soundkeep import Answer, Server, eventually, running
from soundkeep.access.signatures import WINDOW_SECONDS, is_signed, signature
from sounds import wav

SECRET = "a secret of the two"
STORES = {
    "disk": {"kind": "local", "path": "audio"},
    "old": {
        "kind": "local",
        "path": "old",
        "key": "audio/{track_id}.wav",
        "sidecars": False,
        "sidecar_key": "metadata/{track_id}.json",
    },
    "cdn": {"kind": "local", "path": "cdn", "public": True, "public_url": "https://cdn.test"},
}


def settings(folder: Path) -> dict[str, str]:
    (folder / "hook").write_text(SECRET)
    return {
        "STORES": json.dumps(STORES),
        "POLICY__KEEP": '["disk"]',
        "HOOKS": json.dumps({"shop": {"secret": f"file:{folder / 'hook'}"}}),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hooks")
    with running(folder / "data", **settings(folder)) as server:
        yield server


def call(
    server: Server, body: bytes, *, hook: str = "shop", secret: str = SECRET, age: float = 0
) -> Answer:
    at = str(int(time.time() - age))
    signed = {"Soundkeep_Timestamp": at, "Soundkeep_Signature": signature(secret, at, body)}
    return server.ask("POST", f"/api/hooks/{hook}", body, key=None, **signed)


def ask(server: Server, **fields: Any) -> Answer:
    return call(server, json.dumps(fields).encode())


def lay(server: Server, name: str, sound: bytes) -> None:
    path = server.data / "old" / "audio" / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound)


def test_a_signed_request_has_an_object_adopted_with_its_json(server: Server) -> None:
    sound = wav(100_000, seed=1)
    lay(server, "song", sound)
    beside = server.data / "old" / "metadata" / "song.json"
    beside.parent.mkdir(exist_ok=True)
    beside.write_text('{"mood": "calm"}')
    answer = ask(server, operation="adopt", store="old", key="audio/song.wav")
    assert (answer.status, answer.json) == (202, {"accepted": 1})
    eventually(lambda: server.ask("GET", "/api/tracks/song").status == 200)
    assert server.ask("GET", "/api/tracks/song").json["metadata"] == {"mood": "calm"}
    assert server.sound("song") == sound


def test_an_object_that_is_not_there_yet_is_waited_for(server: Server) -> None:
    ask(server, operation="adopt", store="old", key="audio/later.wav")
    lay(server, "later", wav(100_000, seed=2))
    eventually(lambda: server.ask("GET", "/api/tracks/later").status == 200)


def test_a_request_that_is_sent_twice_and_recorded_by_others_is_one_track(server: Server) -> None:
    """Also if both came before the object: each waits for it, and finds the other's track."""
    body = json.dumps({"operation": "adopt", "store": "old", "key": "audio/twice.wav"}).encode()
    at = str(int(time.time()))
    signed = {"Soundkeep_Timestamp": at, "Soundkeep_Signature": signature(SECRET, at, body)}

    def replayed() -> int:
        return server.ask("POST", "/api/hooks/shop", body, key=None, **signed).status

    sound = wav(100_000, seed=7)
    assert (replayed(), replayed()) == (202, 202)
    lay(server, "twice", sound)
    eventually(lambda: not waiting(server, "audio/twice.wav"))
    first = made(server, "twice")
    assert replayed() == 202
    eventually(lambda: not waiting(server, "audio/twice.wav"))
    assert made(server, "twice") == first
    listed = server.ask("GET", "/api/tracks?prefix=audio/twice").json["items"]
    assert [track["id"] for track in listed] == ["twice"]
    assert (server.data / "old" / "audio" / "twice.wav").read_bytes() == sound


def made(server: Server, track_id: str) -> tuple[str, int]:
    """When it was made, and how often it was changed since."""
    track = server.ask("GET", f"/api/tracks/{track_id}").json
    return track["created_at"], track["revision"]


def waiting(server: Server, key: str) -> int:
    """How many errands there are about an object, refused ones among them."""
    with closing(sqlite3.connect(f"file:{server.data}/catalog.db?mode=ro", uri=True)) as catalog:
        count = "SELECT count(*) FROM errands WHERE key = ?"
        return int(catalog.execute(count, [key]).fetchone()[0])


def test_a_signed_request_pushes_a_track_and_withdraws_it(server: Server) -> None:
    track = server.upload("x/show.wav", wav(100_000, seed=3), id="show", visibility="public")
    copy = server.data / "cdn" / "blobs" / track["digest"]
    eventually(copy.exists)
    assert ask(server, operation="sync", track_id="show", withdraw=True).status == 202
    eventually(lambda: not copy.exists())
    assert ask(server, operation="sync", track_id="show", store="cdn").status == 202
    eventually(copy.exists)


def test_whoever_does_not_sign_learns_nothing(server: Server) -> None:
    body = b'{"operation": "sync", "track_id": "show"}'
    refused = [
        call(server, body, secret="another"),
        call(server, body, hook="nobody"),
        call(server, body, age=WINDOW_SECONDS + 60),
        call(server, body, age=-WINDOW_SECONDS - 60),
        server.ask("POST", "/api/hooks/shop", body, key=None),
        server.ask("POST", "/api/hooks/shop", body),
    ]
    assert {answer.status for answer in refused} == {401}
    assert len({answer.body for answer in refused}) == 1, "one answer for all"


def test_a_signature_is_of_this_body_and_this_time() -> None:
    signed = signature(SECRET, "1000", b"body")
    assert is_signed(SECRET, "1000", signed, b"body", 1000 + WINDOW_SECONDS)
    assert not is_signed(SECRET, "1000", signed, b"body", 1001 + WINDOW_SECONDS)
    assert not is_signed(SECRET, "1000", signed, b"bodY", 1000)
    assert not is_signed(SECRET, "1001", signed, b"body", 1000)
    assert not is_signed(SECRET, "", "", b"", 0)
    assert not is_signed(SECRET, "\u0661", "sha256=\u00fc", b"", 1)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"operation": "destroy"}, 400),
        ({"operation": "adopt", "key": "a"}, 400),
        ({"operation": "adopt", "store": "old"}, 400),
        ({"operation": "adopt", "store": "old", "key": ""}, 400),
        ({"operation": "sync"}, 400),
        ({"operation": "sync", "track_id": "show", "store": 7}, 400),
        ({"operation": "sync", "track_id": "show", "store": "nowhere"}, 404),
        ({"operation": "adopt", "store": "old", "key": "audio/a.wav", "owner": "ann"}, 400),
        ({"operation": "adopt", "store": "old", "key": "audio/a.wav", "visibility": "public"}, 400),
    ],
)
def test_what_nobody_could_do_is_not_accepted(
    server: Server, fields: dict[str, Any], status: int
) -> None:
    assert ask(server, **fields).status == status


def test_what_cannot_be_adopted_is_kept_with_its_reason(server: Server) -> None:
    lay(server, "text", b"no sound at all")
    ask(server, operation="adopt", store="old", key="audio/text.wav")
    given = {f"SOUNDKEEP_{name}": text for name, text in settings(server.data.parent).items()}
    run = program(server.data, **given)
    eventually(lambda: run.json("triggers", "refused")["items"])
    [line] = run.json("triggers", "refused")["items"]
    assert (line["store"], line["key"]) == ("old", "audio/text.wav")
    assert line["last_error"].startswith("not_audio: ")
    assert server.ask("GET", "/api/status").json["refused_errands"] == 1
    assert b"soundkeep_refused_errands 1.0" in server.ask("GET", "/metrics").body
    told = "1 errands of other programs cannot be done: `soundkeep triggers refused`"
    assert told in run("status").stdout.decode()


def test_rows_that_another_program_inserts_are_adopted_and_synced(
    postgres_url: str, tmp_path: Path
) -> None:
    """In the transaction that inserts them, also while no server runs."""
    catalog = {**settings(tmp_path), "CATALOG": postgres_url}
    given = {f"SOUNDKEEP_{name}": text for name, text in catalog.items()}
    run = program(tmp_path / "data", **given)
    address = postgres_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as database:
        run("ls")  # makes the tables
        database.execute("CREATE TABLE shop_audio (id serial, object_key text, track_id text)")
        for column in ("--key", "object_key"), ("--track", "track_id"):
            store = "old" if "--key" in column else "cdn"
            sql = run("triggers", "sql", "shop_audio", *column, "--store", store).stdout.decode()
            for _ in range(2):
                database.execute(sql)
        database.execute("INSERT INTO shop_audio (object_key) VALUES ('audio/song.wav'), (NULL)")
        with database.transaction(force_rollback=True):
            database.execute("INSERT INTO shop_audio (object_key) VALUES ('audio/never.wav')")
        with running(tmp_path / "data", **catalog) as server:
            lay(server, "song", wav(100_000, seed=5))
            eventually(lambda: server.ask("GET", "/api/tracks/song").status == 200)
            track = server.upload("show.wav", wav(90_000, seed=6), id="show", visibility="public")
            copy = server.data / "cdn" / "blobs" / track["digest"]
            eventually(copy.exists)
            copy.parent.mkdir(exist_ok=True)
            database.execute("INSERT INTO shop_audio (track_id) VALUES ('show')")
            left = "SELECT count(*) FROM errands"
            eventually(lambda: database.execute(left).fetchone() == (0,))


@pytest.mark.parametrize(
    "words",
    [
        ("a", "--store", "nowhere", "--key", "k"),
        ("a", "--store", "disk"),
        ("a", "--store", "disk", "--key", "k", "--track", "t"),
        ("a; DROP TABLE tracks", "--store", "disk", "--key", "k"),
    ],
)
def test_sql_is_only_made_of_plain_names(tmp_path: Path, words: tuple[str, ...]) -> None:
    program(tmp_path / "data")("triggers", "sql", *words, fails=2)
