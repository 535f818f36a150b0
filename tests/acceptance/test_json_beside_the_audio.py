"""The JSON beside each sound, in a directory and a database, by a real server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from servers.soundkeep import Server, eventually, running
from soundkeep.catalog import schema
from soundkeep.stores.database import DatabaseStore
from sounds import wav

SOUND = wav(300_000, seed=21)
OWN = {"z": 1, "a": "ä", "list": [1.5, None, {"deep": True}]}
STORES = {"disk", "backup"}


def text_in(server: Server, store: str, track_id: str) -> str | None:
    key = f"tracks/{track_id}.json"
    if store == "disk":
        path = server.data / "audio" / key
        return path.read_text() if path.exists() else None
    found = asyncio.run(rows_of(server.data / "backup.db", key))
    return found.decode() if found is not None else None


async def rows_of(database: Path, key: str) -> bytes | None:
    store = DatabaseStore("backup", f"sqlite:///{database}")
    try:
        if await store.stat(key) is None:
            return None
        return b"".join([piece async for piece in store.open(key)])
    finally:
        await store.close()


def sidecar(server: Server, store: str, track_id: str) -> dict[str, Any]:
    text = text_in(server, store, track_id)
    assert text is not None, f"no sidecar of {track_id} in {store}"
    assert text.endswith("}\n")
    found: dict[str, Any] = json.loads(text)
    return found


def settled(server: Server) -> None:
    eventually(lambda: server.check()["passed"])


def change(server: Server, track_id: str, **values: object) -> None:
    answer = server.ask("PATCH", f"/api/tracks/{track_id}", json.dumps(values).encode())
    assert answer.status == 200, answer.body


def test_a_sidecar_is_written_follows_its_track_and_goes_with_it(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        own = quote(json.dumps(OWN))
        track = server.upload("a.wav", SOUND, id="one", title="First", metadata=own)
        settled(server)
        for store in STORES:
            found = sidecar(server, store, "one")
            ours = found.pop("soundkeep")
            assert list(found.items()) == list(OWN.items())
            assert {name: ours[name] for name in ("id", "owner", "path", "title", "digest")} == {
                name: track[name] for name in ("id", "owner", "path", "title", "digest")
            }
            assert ours["key"] == f"blobs/{track['digest']}"

        before = {store: text_in(server, store, "one") or "" for store in STORES}
        change(server, "one", title="Second")
        settled(server)
        for store in STORES:
            after = text_in(server, store, "one") or ""
            assert sidecar(server, store, "one")["soundkeep"]["title"] == "Second"
            own_part = before[store].index('"soundkeep"')
            assert after[:own_part] == before[store][:own_part]

        copies = server.ask("GET", "/api/tracks/one/copies").json["items"]
        beside = {copy["store"]: copy["sidecar"] for copy in copies if copy["sidecar"]}
        assert beside.keys() == STORES, "an inbox has none"
        assert {(each["state"], each["revision"]) for each in beside.values()} == {("written", 2)}

        server.ask("DELETE", "/api/tracks/one")
        eventually(lambda: server.ask("GET", "/api/tracks/one/receipt").json["complete"])
        lines = server.ask("GET", "/api/tracks/one/receipt").json["stores"]
        gone = {line["store"] for line in lines if line["key"] == "tracks/one.json"}
        assert gone == STORES
        assert {line["outcome"] for line in lines} == {"removed"}
        assert {text_in(server, store, "one") for store in STORES} == {None}


def test_two_tracks_with_the_same_sound_have_a_sidecar_each(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        for name in ("one", "two"):
            server.upload(f"{name}.wav", SOUND, id=name)
        settled(server)
        server.ask("DELETE", "/api/tracks/one")
        eventually(lambda: all(text_in(server, store, "one") is None for store in STORES))
        for store in STORES:
            assert sidecar(server, store, "two")["soundkeep"]["path"] == "two.wav"
        assert server.sound("two") == SOUND


def test_a_public_store_has_sidecars_of_public_tracks_without_their_owner(tmp_path: Path) -> None:
    cdn = {"kind": "local", "path": "cdn", "public": True, "key": "audio/{track_id}.{ext}"}
    cdn["sidecar_key"] = "metadata/{track_id}.json"
    stores = {
        "disk": {"kind": "local", "path": "audio"},
        "backup": {"kind": "database"},
        "cdn": cdn,
    }
    with running(tmp_path / "data", STORES=json.dumps(stores)) as server:
        server.upload("open.wav", SOUND, id="open", visibility="public", owner="someone")
        server.upload("secret.wav", wav(5000, seed=2), id="secret", owner="someone")
        settled(server)
        beside = server.data / "cdn" / "metadata"
        found = json.loads((beside / "open.json").read_text())["soundkeep"]
        assert found["key"] == "audio/open.wav"
        assert "someone" not in (beside / "open.json").read_text()
        assert not (beside / "secret.json").exists()
        assert sidecar(server, "disk", "open")["soundkeep"]["owner"] == "someone"

        change(server, "open", visibility="private")
        eventually(lambda: not (beside / "open.json").exists())
        eventually(lambda: not (server.data / "cdn" / "audio" / "open.wav").exists())
        settled(server)
        assert sidecar(server, "disk", "open")["soundkeep"]["visibility"] == "private"


def test_a_store_that_was_out_gets_its_sidecars_when_it_is_back(tmp_path: Path) -> None:
    with running(tmp_path / "data", WORKER__PROBE_SECONDS="0.5") as server:
        server.upload("a.wav", SOUND, id="one", title="First")
        settled(server)
        (server.data / "audio").rename(server.data / "away")
        change(server, "one", title="Second")
        eventually(lambda: sidecar(server, "backup", "one")["soundkeep"]["title"] == "Second")
        eventually(lambda: state_of(server, "disk") == "out")
        checked = server.check()
        assert not checked["passed"]
        [unwritten] = checked["unwritten_sidecars"]
        assert (unwritten["store"], unwritten["state"], unwritten["attempts"]) == ("disk", "due", 0)

        (server.data / "away").rename(server.data / "audio")
        settled(server)
        assert sidecar(server, "disk", "one")["soundkeep"]["title"] == "Second"


def state_of(server: Server, name: str) -> str:
    found: str = server.ask("GET", f"/api/stores/{name}").json["state"]
    return found


def test_a_catalog_from_before_sidecars_gets_them_by_itself(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        for name in ("one", "two", "three"):
            server.upload(f"{name}.wav", wav(5000, seed=len(name) + 40), id=name)
        settled(server)
        server.stop()
        forget_sidecars(server.data)
        server.start()
        eventually(lambda: server.check()["stores"] and text_in(server, "disk", "three"))
        settled(server)
        for store in STORES:
            for name in ("one", "two", "three"):
                assert sidecar(server, store, name)["soundkeep"]["id"] == name
        shares = {each["store"]: each["sidecars"] for each in server.check()["stores"]}
        for store in STORES:
            assert shares[store] == {"written": 4, "due": 0, "failing": 0}, "and the first tune's"


ADDED_SINCE = (
    ("removals", "sidecar_id"),
    ("stores", "draining_at"),
    ("copies", "seen_at"),
    ("tracks", "own_keys"),
)


def forget_sidecars(data: Path) -> None:
    """Makes the catalog one of that release: the migrations and a replanning are to come."""
    first = import_module("soundkeep.catalog.migrations.versions.0001_the_keep")
    with sqlite3.connect(data / "catalog.db") as catalog:
        for later in schema.metadata.tables.keys() - first.metadata.tables.keys():
            catalog.execute(f"DROP TABLE {later}")
        catalog.execute("DROP INDEX ix_removals_sidecar_id")
        for table, column in ADDED_SINCE:
            catalog.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        catalog.execute("UPDATE alembic_version SET version_num = '0002'")
        catalog.execute("DELETE FROM facts WHERE name = 'placement'")
    catalog.close()
    for file in (data / "audio" / "tracks").iterdir():
        file.unlink()


def test_metadata_with_our_own_field_is_refused_on_every_way_in(tmp_path: Path) -> None:
    ours = json.dumps({"soundkeep": {}})
    with running(tmp_path / "data") as server:
        refused = server.ask("POST", f"/api/tracks?path=a.wav&metadata={quote(ours)}", SOUND)
        assert (refused.status, refused.json["code"]) == (400, "bad_metadata")
        assert "soundkeep" in refused.json["detail"]
        server.upload("a.wav", SOUND, id="one")
        change_ = json.dumps({"metadata": json.loads(ours)}).encode()
        refused = server.ask("PATCH", "/api/tracks/one", change_)
        assert (refused.status, refused.json["code"]) == (400, "bad_metadata")


def test_kill_9_leaves_no_sidecar_unwritten_and_no_lease_waited_for(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        for number in range(20):
            server.upload(f"{number}.wav", wav(20_000, seed=100 + number), id=f"t{number}")
        for number in range(20):
            change(server, f"t{number}", title=f"Changed {number}")
        server.kill()
        server.start()
        settled(server)
        for number in range(20):
            for store in STORES:
                found = sidecar(server, store, f"t{number}")["soundkeep"]
                assert found["title"] == f"Changed {number}"
