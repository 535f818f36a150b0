"""The catalog is lost and its backup is two days old: what came since comes back from a store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from acceptance.test_it_comes_back_from_one_store import (
    engines,
    house,
    place,
    say,
    settled,
    told,
)
from servers.fake_provider import Fake
from servers.soundkeep import Json, Server
from sounds import wav

__all__ = ["engines"]  # a fixture

AFTER = {"title": "After%20%C3%84", "owner": "ann", "visibility": "public"}


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_what_came_after_the_backup_is_taken_in_from_a_store_while_the_server_runs(
    kind: str, tmp_path: Path, engines: str, fake_openai: Fake, request: pytest.FixtureRequest
) -> None:
    data = tmp_path / "data"
    with (
        place(kind, tmp_path, request) as saved,
        house(data, saved, engines) as (server, soundkeep),
    ):
        upload(server, "kept")
        settled(server)
        copied(data / "catalog.db", tmp_path / "backup.db")

        upload(server, "after", **AFTER)
        spoken = say(server)
        settled(server)
        before = told(track(server, "after"))
        server.stop()
        for leftover in data.glob("catalog.db*"):
            leftover.unlink()
        copied(tmp_path / "backup.db", data / "catalog.db")

        [found] = soundkeep.json("orphans", "saved")["items"]
        assert "tracks/after.json" in found["unread"]
        server.start()
        taken = soundkeep.json("rebuild", "--from", "saved")
        assert taken["taken"] == {"track": 2, "segment": 3}, "the upload, and the book's track"
        assert taken["left"] == []
        assert told(track(server, "after")) == before
        assert server.sound("after") == sound("after")
        again = say(server)
        assert (again["cached"], again["track_id"]) == (True, spoken["track_id"])
        assert fake_openai.charges()["charges"] == 3, "nothing is paid for again"
        settled(server)
        [found] = soundkeep.json("orphans", "saved", "--execute")["items"]
        assert (found["unread_count"], found["orphan_count"]) == (0, 0)
        assert server.sound("kept") == sound("kept")


def upload(server: Server, name: str, **more: str) -> Json:
    return server.upload(f"{name}.wav", sound(name), id=name, **more)


def track(server: Server, name: str) -> Json:
    found: Json = server.ask("GET", f"/api/tracks/{name}").json
    return found


def sound(name: str) -> bytes:
    return wav(40_000, seed=sum(name.encode()))


def copied(catalog: Path, to: Path) -> None:
    with closing(sqlite3.connect(catalog)) as one, closing(sqlite3.connect(to)) as other:
        one.backup(other)
