"""The catalog and every store but one are destroyed: all comes back, and nothing is paid again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cli.commands import Program
from servers.afar import in_bucket
from servers.azurite import ACCOUNT, ACCOUNT_KEY, running_azurite
from servers.fake_provider import API_KEY, Fake
from servers.fake_supabase import SERVICE_KEY, fake_supabase
from servers.seaweed import SeaweedFS
from servers.soundkeep import Json, Server, eventually, running
from servers.sqld import Sqld
from sounds import wav

BOOK = (
    "Once, a fox saw a bunch of grapes.\n\n"
    "It jumped, and it jumped again.\n\n"
    "They are sour, said the fox, and went home.\n"
)
SAID = {"text": BOOK, "voice": "nova", "format": "mp3", "collection": "fables", "timings": True}
OWN = {"z": 1, "a": ["ä", None]}
UPLOADS = 3
KINDS = ("local", "database", "s3", "turso", "supabase", "azure")


@pytest.fixture
def engines(fake_openai: Fake, monkeypatch: pytest.MonkeyPatch) -> str:
    """A provider that counts what it charges."""
    monkeypatch.setenv("KEY_OF_THE_FAKE", API_KEY)
    fake = {
        "kind": "openai",
        "base_url": f"{fake_openai.url}/v1",
        "api_key": "env:KEY_OF_THE_FAKE",
        "price": 15,
        "voices": ["nova"],
        "captions": False,
    }
    return json.dumps({"fake": fake})


@contextmanager
def place(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Json]:
    """The settings of an empty private store of that kind, at the most real thing there is."""
    secrets = folder / "secrets"
    if kind == "local":
        yield {"kind": kind, "path": "saved"}
    elif kind == "s3":
        seaweed: SeaweedFS = request.getfixturevalue("seaweed")
        yield in_bucket(seaweed.bucket, secrets, prefix=f"{folder.name}/")
    elif kind == "turso":
        sqld: Sqld = request.getfixturevalue("sqld")
        yield {"kind": kind, "url": sqld.new_database()}
    elif kind == "supabase":
        with fake_supabase() as supabase:
            at = {"url": supabase.url, "bucket": supabase.new_bucket("saved")}
            yield {"kind": kind, **at, "service_key": secret(secrets, SERVICE_KEY)}
    elif kind == "azure":
        with running_azurite() as azurite:
            account = {"account": ACCOUNT, "account_key": secret(secrets, ACCOUNT_KEY)}
            at = {"service": kind, "endpoint": azurite.endpoint, **account}
            yield {"kind": "cloud", "bucket": azurite.new_container(), "at": at}
    else:
        yield {"kind": kind}


def secret(folder: Path, text: str) -> str:
    """How settings name a secret that is laid down there."""
    folder.mkdir(exist_ok=True)
    (folder / "key").write_text(text)
    return f"file:{folder / 'key'}"


@contextmanager
def house(
    data: Path, saved: Json, engines: str, keep: tuple[str, ...] = ("saved", "other")
) -> Iterator[tuple[Server, Program]]:
    """A server that keeps everything in the store `saved` and in one more; and the program with the
    same settings."""
    stores = {"saved": saved, "other": {"kind": "local", "path": "other"}}
    settings = {
        "STORES": json.dumps(stores),
        "POLICY__KEEP": json.dumps(keep),
        "SPEECH__ENGINES": engines,
        "WORKER__POLL_SECONDS": "0.2",
    }
    with running(data, **settings) as server:
        named = {f"SOUNDKEEP_{name}": text for name, text in settings.items()}
        yield server, Program(("--data", str(data)), named)


def say(server: Server) -> Json:
    answer = server.ask("POST", "/api/speech", json.dumps(SAID).encode())
    assert answer.status in (200, 201), answer.body
    found: Json = answer.json
    return found


def settled(server: Server) -> None:
    eventually(lambda: server.check()["passed"], seconds=60)


def destroy(data: Path) -> None:
    """All but the store that is to be saved."""
    for path in data.iterdir():
        if path.name not in ("saved", "saved.db", "saved.db-wal", "saved.db-shm"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def told(track: Json) -> Json:
    """What a track is, wherever it lies by now."""
    lasting = ("id", "owner", "path", "title", "visibility", "metadata", "digest", "size_bytes")
    more = ("media_type", "duration_seconds", "created_at", "revision", "tags")
    return {name: track[name] for name in (*lasting, *more)}


def all_tracks(server: Server) -> list[Json]:
    return [told(track) for track in server.ask("GET", "/api/tracks?limit=100").json["items"]]


@pytest.mark.parametrize("kind", KINDS)
def test_one_private_store_brings_everything_back_and_a_book_costs_nothing_again(
    kind: str, tmp_path: Path, engines: str, fake_openai: Fake, request: pytest.FixtureRequest
) -> None:
    data = tmp_path / "data"
    with (
        place(kind, tmp_path, request) as saved,
        house(data, saved, engines) as (server, soundkeep),
    ):
        before = fill(server)
        assert fake_openai.charges()["charges"] == before.paid == 3

        drilled = soundkeep.json("rebuild", "--from", "saved", "--drill")
        assert (drilled["lost"], drilled["left"]) == ([], [])
        assert drilled["compared"] == {"tracks": len(before.tracks), "segments": 3, "speeches": 1}
        assert server.check()["passed"], "a drill changes nothing"

        server.stop()
        destroy(data)
        rebuilt = soundkeep.json("rebuild", "--from", "saved")
        assert rebuilt["taken"] == {"track": len(before.tracks), "segment": 3}
        assert rebuilt["left"] == []

        server.start()
        settled(server)
        assert_is_back(server, before, fake_openai)


@pytest.mark.parametrize("first", ["drain", "migrate"])
def test_the_store_that_another_was_emptied_into_brings_the_speech_back_too(
    first: str, tmp_path: Path, engines: str, fake_openai: Fake
) -> None:
    data, saved = tmp_path / "data", {"kind": "local", "path": "saved"}
    with house(data, saved, engines, keep=("other",)) as (server, soundkeep):
        before = fill(server)
        if first == "migrate":
            moved = soundkeep.json("migrate", "other", "saved", "--execute", "--delete-after")
            assert moved["speech_copies"] == 3, "it says that these do not go with the tracks"
            settled(server)
        tracks = all_tracks(server)
    with house(data, saved, engines, keep=("saved",)) as (server, soundkeep):
        settled(server)
        soundkeep("stores", "drain", "other")
        eventually(lambda: not lies(data / "other"), seconds=60)
        settled(server)
        assert len([name for name in lies(data / "saved") if name.startswith("segments/")]) == 3
        server.stop()
        destroy(data)
        assert soundkeep.json("rebuild", "--from", "saved")["left"] == []
        server.start()
        settled(server)
        assert_is_back(server, replace(before, tracks=tracks), fake_openai)


@dataclass(frozen=True)
class Before:
    """What there was before all was destroyed but one store."""

    tracks: list[Json]
    spoken: Json
    timing: Json
    paid: int


def fill(server: Server) -> Before:
    """Uploads, and a book of three segments, each in every store of `policy.keep`."""
    for number in range(UPLOADS):
        sound, name = wav(300_000 + number, seed=number), f"t{number}"
        server.upload(f"{name}.wav", sound, id=name, owner="ann", metadata=quoted(OWN))
    spoken = say(server)
    assert (spoken["segments"], spoken["cached"]) == (3, False)
    timing = server.ask("GET", f"/api/tracks/{spoken['track_id']}/timing").json
    settled(server)
    return Before(all_tracks(server), spoken, timing, paid=3)


def assert_is_back(server: Server, before: Before, provider: Fake) -> None:
    assert all_tracks(server) == before.tracks
    for number in range(UPLOADS):
        assert server.sound(f"t{number}") == wav(300_000 + number, seed=number)
    again, spoken = say(server), before.spoken
    assert (again["cached"], again["cost"], again["segments_generated"]) == (True, 0, 0)
    assert (again["key"], again["track_id"]) == (spoken["key"], spoken["track_id"])
    timing = server.ask("GET", f"/api/tracks/{again['track_id']}/timing").json
    assert timing == before.timing
    edited = {**SAID, "text": BOOK.replace("went home", "ran away")}
    new = server.ask("POST", "/api/speech", json.dumps(edited).encode()).json
    assert new["segments_generated"] == 1, "of an edited book only what was changed is new"
    assert provider.charges()["charges"] == before.paid + 1


def lies(folder: Path) -> list[str]:
    """The names of what lies in a directory store, but for its marker."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in files if not name.startswith(".soundkeep/")]


def quoted(metadata: Json) -> str:
    return quote(json.dumps(metadata))


def test_a_drill_says_what_would_be_lost_and_touches_nothing(tmp_path: Path, engines: str) -> None:
    data = tmp_path / "data"
    with house(data, {"kind": "local", "path": "saved"}, engines) as (server, soundkeep):
        for name in ("one", "two"):
            server.upload(f"{name}.wav", wav(5000, seed=len(name)), id=name)
        settled(server)
        server.stop()
        (data / "saved" / "tracks" / "two.json").unlink()
        before = contents(data)
        drilled = soundkeep.json("rebuild", "--from", "saved", "--drill", fails=1)
        [lost] = drilled["lost"]
        assert lost == {"kind": "track", "name": "two", "why": "the store does not tell of it"}
        assert contents(data) == before


def contents(data: Path) -> dict[str, Any]:
    """Every file and its bytes, and every row of the catalog."""
    with closing(sqlite3.connect(data / "catalog.db")) as catalog:
        rows = list(catalog.iterdump())
    files = {
        str(path): path.read_bytes()
        for path in data.rglob("*")
        if path.is_file() and not path.name.startswith("catalog.db")
    }
    return {"rows": rows, "files": files, "folders": sorted(path.name for path in data.iterdir())}
