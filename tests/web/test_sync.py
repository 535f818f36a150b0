"""Tracks are pushed to stores and withdrawn from them, and nothing is said to be done too soon."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers.soundkeep import Answer, Json, Server, eventually, running
from sounds import wav

SEEDS = itertools.count(7000)


def settings(data: Path) -> str:
    return f"""
data = "{data}"
[policy]
keep = ["disk", "backup"]
[worker]
probe_seconds = 0.2
poll_seconds = 0.1
[stores.disk]
kind = "local"
path = "audio"
[stores.backup]
kind = "database"
[stores.vault]
kind = "local"
path = "vault"
[stores.cdn]
kind = "local"
path = "cdn"
public = true
public_url = "https://cdn.example.org/sounds/"
cache_seconds = 600
key = "audio/{{track_id}}.{{ext}}"
[stores.mirror]
kind = "local"
path = "mirror"
public = true
max_bytes = 20000
"""


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    config = folder / "soundkeep.toml"
    config.write_text(settings(folder / "data"))
    with running(folder / "data", CONFIG=str(config)) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sync")) as server:
        yield server


def upload(server: Server, *, public: bool = True, size: int = 5_000, **named: str) -> Json:
    seed = next(SEEDS)
    visibility = "public" if public else "private"
    path = named.pop("path", f"{seed}.wav")
    return server.upload(path, wav(size, seed), visibility=visibility, **named)


def ask(server: Server, path: str, **fields: object) -> Answer:
    return server.ask("POST", path, json.dumps(fields).encode())


def sync(server: Server, track: Json, store: str | None = "cdn", **fields: object) -> Json:
    """One track's line in one store, at the end of the wait."""
    order = {"store": store, "wait_seconds": 20, **fields}
    answer = ask(server, f"/api/tracks/{track['id']}/sync", **order)
    assert answer.status == 200, answer.body
    line: Json = answer.json["items"][0]
    return line


def withdraw(server: Server, track: Json, store: str | None = "cdn", **fields: object) -> Json:
    return sync(server, track, store, operation="delete", **fields)


def now(server: Server, track: Json) -> Json:
    found: Json = server.ask("GET", f"/api/tracks/{track['id']}").json
    return found


def change(server: Server, track: Json, **fields: object) -> Json:
    answer = server.ask("PATCH", f"/api/tracks/{track['id']}", json.dumps(fields).encode())
    assert answer.status == 200, answer.body
    found: Json = answer.json
    return found


def receipt(server: Server, track: Json) -> Answer:
    return server.ask("GET", f"/api/tracks/{track['id']}/receipt")


def file_in(server: Server, track: Json, store: str = "cdn") -> Path:
    key = f"audio/{track['id']}.wav" if store == "cdn" else f"blobs/{track['digest']}"
    return server.data / store / key


# --- what is public ------------------------------------------------------------------------------


def test_a_public_track_comes_to_every_public_store_that_takes_it_and_says_where(
    server: Server,
) -> None:
    track = upload(server, path="where/a.wav", id="A.1-b_c")
    line = sync(server, track)
    assert (line["state"], line["due"]) == ("present", [])
    assert line["cdn_url"] == "https://cdn.example.org/sounds/audio/A.1-b_c.wav"
    assert line["sidecar_cdn_url"] == "https://cdn.example.org/sounds/tracks/A.1-b_c.json"
    shown = now(server, track)
    assert shown["cdn_url"] == line["cdn_url"]
    assert shown["sidecar_cdn_url"] == line["sidecar_cdn_url"]
    assert shown["cdn_uploaded_at"] == line["timestamp"] >= shown["created_at"]
    assert file_in(server, track).read_bytes() == server.sound(track["id"])
    eventually(lambda: file_in(server, track, "mirror").exists())


def test_a_private_track_comes_to_no_public_store_and_cannot_be_pushed_there(
    server: Server,
) -> None:
    track = upload(server, public=False)
    refusal = ask(server, f"/api/tracks/{track['id']}/sync")
    assert (refusal.status, refusal.json["code"]) == (409, "track_is_private")
    shown = now(server, track)
    assert not {"cdn", "mirror"} & shown["storage_locations"].keys()
    assert (shown["cdn_url"], shown["revision"]) == (None, 1)
    assert not file_in(server, track).exists()


def test_a_track_made_private_leaves_the_public_stores_and_comes_back_when_public(
    server: Server,
) -> None:
    track = upload(server)
    assert sync(server, track)["state"] == "present"
    assert change(server, track, visibility="private")["cdn_url"] is None
    eventually(lambda: receipt(server, track).json["complete"])
    assert not file_in(server, track).exists()
    assert not file_in(server, track, "mirror").exists()
    lines = receipt(server, track).json["stores"]
    assert {line["store"]: line["outcome"] for line in lines} == {
        "cdn": "removed",
        "mirror": "removed",
    }
    change(server, track, visibility="public")
    assert sync(server, track)["state"] == "present"
    assert receipt(server, track).status == 404, "nothing of it is withdrawn any more"


# --- what was asked ------------------------------------------------------------------------------


def test_a_withdrawn_track_stays_away_until_it_is_pushed_again(server: Server) -> None:
    track = upload(server, path="stays/away.wav")
    before = sync(server, track)
    line = withdraw(server, track)
    assert (line["state"], line["due"], line["cdn_url"]) == ("gone", [], None)
    assert line["timestamp"] > before["timestamp"]
    assert not file_in(server, track).exists()
    # Neither the same bytes again nor visibility back and forth undo it.
    again = server.upload("stays/away.wav", server.sound(track["id"]), visibility="public")
    assert again["id"] == track["id"]
    change(server, track, visibility="private")
    change(server, track, visibility="public")
    assert withdraw(server, track, dry_run=True)["state"] == "gone"
    assert now(server, track)["cdn_url"] is None
    line = sync(server, track)
    assert (line["state"], file_in(server, track).exists()) == ("present", True)


def test_asking_twice_is_asking_once(server: Server) -> None:
    track = upload(server)
    sync(server, track)
    revision = now(server, track)["revision"]
    assert sync(server, track)["state"] == "present"
    assert now(server, track)["revision"] == revision
    withdraw(server, track)
    assert withdraw(server, track)["state"] == "gone"
    assert now(server, track)["revision"] == revision + 1


def test_a_private_track_is_pushed_to_a_private_store_outside_keep(server: Server) -> None:
    track = upload(server, public=False)
    assert "vault" not in now(server, track)["storage_locations"]
    line = sync(server, track, "vault")
    assert (line["state"], line["cdn_url"]) == ("present", None)
    assert file_in(server, track, "vault").read_bytes() == server.sound(track["id"])
    assert withdraw(server, track, "vault")["state"] == "gone"
    assert not file_in(server, track, "vault").exists()


def test_a_store_of_keep_is_left_only_while_another_holds_the_bytes(server: Server) -> None:
    track = upload(server, public=False)
    eventually(lambda: server.check()["passed"])
    assert withdraw(server, track, "disk")["state"] == "gone"
    line = ask(server, f"/api/tracks/{track['id']}/sync", operation="delete", store="backup").json[
        "items"
    ][0]
    assert line["due"] == ["leave", "remove_sidecar", "drop"]

    def refused_by_the_law() -> bool:
        line = withdraw_look(server, track, "backup")
        return bool(line["due"]) and "not_enough_copies" in (line["why"] or "")

    eventually(refused_by_the_law)
    assert len(server.sound(track["id"])) == 5_000
    sync(server, track, "disk")
    eventually(lambda: withdraw_look(server, track, "backup")["state"] == "gone")
    assert len(server.sound(track["id"])) == 5_000


def withdraw_look(server: Server, track: Json, store: str) -> Json:
    fields = {"operation": "delete", "store": store, "dry_run": True}
    line: Json = ask(server, f"/api/tracks/{track['id']}/sync", **fields).json["items"][0]
    return line


def test_what_another_track_keeps_there_is_said_and_stays(server: Server) -> None:
    sound = wav(5_000, next(SEEDS))
    one = server.upload("shared/1.wav", sound, visibility="public")
    two = server.upload("shared/2.wav", sound, visibility="public")
    sync(server, one, "mirror")
    assert withdraw(server, one, "mirror")["state"] == "kept: named elsewhere"
    assert file_in(server, one, "mirror").exists()
    lines = {line["key"]: line["outcome"] for line in receipt(server, one).json["stores"]}
    assert lines == {
        f"blobs/{one['digest']}": "kept: named elsewhere",
        f"tracks/{one['id']}.json": "removed",
    }
    assert sync(server, two, "mirror", dry_run=True)["state"] == "present"
    assert withdraw(server, two, "mirror")["state"] == "gone"
    assert not file_in(server, one, "mirror").exists()
    assert withdraw(server, one, "mirror", dry_run=True)["state"] == "gone"
    # Under keys of their own each goes by itself.
    assert {sync(server, one)["state"], sync(server, two)["state"]} == {"present"}
    assert withdraw(server, one)["state"] == "gone"
    assert file_in(server, two).exists()


def test_a_dry_run_says_what_is_due_and_changes_nothing(server: Server) -> None:
    track = upload(server)
    sync(server, track)
    shown = now(server, track)
    pushed = sync(server, track, "vault", dry_run=True, wait_seconds=0)
    lines = [withdraw_look(server, track, "cdn"), pushed]
    assert [(line["state"], line["due"]) for line in lines] == [
        ("present", ["leave", "remove_sidecar", "drop"]),
        ("wanted", ["copy", "write_sidecar"]),
    ]
    assert now(server, track) == shown
    assert not file_in(server, track, "vault").exists()


# --- many ----------------------------------------------------------------------------------------


def test_one_track_that_cannot_be_pushed_fails_no_other(server: Server) -> None:
    good, private = upload(server), upload(server, public=False)
    large = upload(server, size=30_000)
    ids = [good["id"], private["id"], "no-such-track", large["id"], "a\0b"]
    answer = ask(server, "/api/sync", track_ids=ids, wait_seconds=20)
    assert answer.status == 200
    codes = {
        (line["track_id"], line["store"]): line["error"] and line["error"]["code"]
        for line in answer.json["items"]
    }
    assert codes == {
        (good["id"], "cdn"): None,
        (good["id"], "mirror"): None,
        (private["id"], "cdn"): "track_is_private",
        (private["id"], "mirror"): "track_is_private",
        ("no-such-track", None): "no_such_track",
        ("a\0b", None): "no_such_track",
        (large["id"], "cdn"): None,
        (large["id"], "mirror"): "not_taken",
    }
    assert answer.json["summary"] == {"done": 3, "due": 0, "refused": 5}


def test_a_prefix_is_worked_through_page_by_page(server: Server) -> None:
    made = {upload(server, path=f"many/{n}.wav")["id"] for n in range(5)}
    upload(server, path="other.wav")
    seen: list[str] = []
    cursor: Json = {}
    for _ in range(5):
        page = ask(
            server, "/api/sync", prefix="many/", operation="delete", limit=2, store="cdn", **cursor
        ).json
        seen += [line["track_id"] for line in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert (len(seen), set(seen)) == (5, made)
    look = {"track_ids": seen, "operation": "delete", "store": "cdn", "dry_run": True}
    eventually(lambda: ask(server, "/api/sync", **look).json["summary"]["done"] == 5)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 400, "bad_input"),
        ({"track_ids": [], "prefix": ""}, 400, "bad_input"),
        ({"track_ids": "one"}, 400, "bad_input"),
        ({"track_ids": [1]}, 400, "bad_input"),
        ({"track_ids": ["x"] * 1001}, 400, "bad_input"),
        ({"prefix": "", "operation": "burn"}, 400, "bad_input"),
        ({"prefix": "", "operation": []}, 400, "bad_input"),
        ({"prefix": "", "store": 5}, 400, "bad_input"),
        ({"prefix": "", "store": "no-such"}, 404, "no_such_store"),
        ({"prefix": "", "store": "inbox@here"}, 404, "no_such_store"),
        ({"prefix": "", "dry_run": "yes"}, 400, "bad_input"),
        ({"prefix": "", "wait_seconds": 31}, 400, "bad_input"),
        ({"prefix": "", "wait_seconds": -1}, 400, "bad_input"),
        ({"prefix": "", "wait_seconds": True}, 400, "bad_input"),
        ({"prefix": "", "limit": 0}, 400, "bad_input"),
        ({"prefix": "", "limit": 1001}, 400, "bad_input"),
        ({"prefix": "", "cursor": "zz"}, 400, "bad_cursor"),
        ({"prefix": "", "force": True}, 400, "bad_input"),
    ],
)
def test_a_bad_order_is_refused_before_anything_is_done(
    server: Server, fields: Json, status: int, code: str
) -> None:
    answer = ask(server, "/api/sync", **fields)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_every_field_of_an_order_is_described(server: Server) -> None:
    paths = server.ask("GET", "/openapi.json", key=None).json["paths"]

    def fields(path: str) -> set[str]:
        body = paths[path]["post"]["requestBody"]["content"]["application/json"]
        return set(body["schema"]["properties"])

    of_one = {"operation", "store", "dry_run", "wait_seconds"}
    assert fields("/api/tracks/{track_id}/sync") == of_one
    assert fields("/api/sync") == of_one | {"track_ids", "prefix", "limit", "cursor"}
    assert "307" in paths["/audio/{track_id}"]["get"]["responses"]


def test_nobody_without_the_key_pushes_or_withdraws(server: Server) -> None:
    track = upload(server)
    for path in ("/api/sync", f"/api/tracks/{track['id']}/sync"):
        assert server.ask("POST", path, b'{"prefix": ""}', key=None).status == 401


# --- while the store is down ---------------------------------------------------------------------


def test_nothing_is_said_to_be_withdrawn_before_the_store_that_was_down_has_confirmed_it(
    tmp_path: Path,
) -> None:
    """Two stores in two directories, one of them public; the public one is unmounted."""
    with serving(tmp_path) as server:
        hidden, deleted, withdrawn = (upload(server) for _ in range(3))
        for track in (hidden, deleted, withdrawn):
            assert sync(server, track)["state"] == "present"
        sound = server.sound(hidden["id"])
        place, away = server.data / "cdn", tmp_path / "unmounted"
        place.rename(away)

        change(server, hidden, visibility="private")
        server.ask("DELETE", f"/api/tracks/{deleted['id']}")
        ask(server, f"/api/tracks/{withdrawn['id']}/sync", operation="delete", store="cdn")
        eventually(lambda: server.ask("GET", "/api/stores/cdn").json["state"] == "out")

        for track in (hidden, withdrawn):
            line = withdraw_look(server, track, "cdn")
            assert line["due"], line
            assert line["why"].startswith("cdn is out: store_misconfigured")
            rows = server.ask("GET", f"/api/tracks/{track['id']}/copies").json["items"]
            assert [row["due"] in ("leave", "drop") for row in rows if row["store"] == "cdn"] == [
                True
            ]
            assert now(server, track)["cdn_url"] is None
        for track in (hidden, deleted, withdrawn):
            document = receipt(server, track).json
            lines = [line for line in document["stores"] if line["store"] == "cdn"]
            assert [line["outcome"] for line in lines] == ["pending"] * 2  # the sidecar's too
            assert [line["cached_until"] for line in lines] == [None] * 2
            assert not document["complete"]
            assert (away / f"audio/{track['id']}.wav").exists()
        assert server.ask("GET", f"/audio/{hidden['id']}", key=None).status == 404
        assert server.ask("GET", f"/audio/{withdrawn['id']}", key=None).status == 200

        away.rename(place)
        for track in (hidden, deleted, withdrawn):
            eventually(lambda track=track: receipt(server, track).json["complete"])
            assert not file_in(server, track).exists()
            document = receipt(server, track).json
            lines = [line for line in document["stores"] if line["store"] == "cdn"]
            assert [line["outcome"] for line in lines] == ["removed"] * 2
            for line in lines:
                assert line["cached_until"] > line["confirmed_at"]
                assert document["cached_until"] >= line["cached_until"]
        assert withdraw_look(server, withdrawn, "cdn")["state"] == "gone"
        assert server.sound(hidden["id"]) == sound
