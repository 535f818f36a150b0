"""`adopt` on what people have: a bucket that is full already, and CIDs from before."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.commands import Program, program, wav
from servers.afar import in_bucket
from servers.fake_pinata import TOKEN, fake_pinata
from servers.s3_plain import Bucket
from servers.seaweed import SeaweedFS
from servers.soundkeep import eventually

BASE = {"kind": "local", "path": "base"}
COUNT = 32


def house(data: Path, **stores: dict[str, Any]) -> Program:
    return program(
        data,
        SOUNDKEEP_STORES=json.dumps({"base": BASE, **stores}),
        SOUNDKEEP_POLICY__KEEP='["base"]',
        SOUNDKEEP_INBOX__LINGER_SECONDS="0",
    )


class Full:
    """A bucket of the old application: sounds, their JSON, and what is neither."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.prefix = f"old-{uuid.uuid4().hex}"
        self.sounds = {f"song-{n}": wav(100_000 + 4 * n, n) for n in range(COUNT)}
        self.objects = {f"audio/{name}.mp3": sound for name, sound in self.sounds.items()}
        for n in range(COUNT):
            about = {"mood": f"nr {n}", "ü": [n]}
            self.objects[f"metadata/song-{n}.json"] = json.dumps(about).encode()
        self.objects["audio/notes.txt"] = b"no sound"
        self.objects["elsewhere/film.wav"] = wav(50_000, 99)
        for key, content in self.objects.items():
            assert bucket.ask("PUT", f"{self.prefix}/{key}", content).status == 200

    def store(self, folder: Path) -> dict[str, Any]:
        layout = {"key": "audio/{track_id}.mp3", "sidecar_key": "metadata/{track_id}.json"}
        return in_bucket(self.bucket, folder, prefix=self.prefix, sidecars=False, **layout)

    def is_untouched(self) -> bool:
        asked = {key: self.bucket.ask("GET", f"{self.prefix}/{key}") for key in self.objects}
        return {key: answer.body for key, answer in asked.items()} == self.objects


def tracks_in(catalog: Path) -> int:
    """As another process sees them; 0 as long as there is no catalog."""
    try:
        with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM tracks").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.fixture
def full(seaweed: SeaweedFS) -> Full:
    return Full(seaweed.bucket)


def test_a_full_bucket_is_adopted_once_even_if_it_is_killed_in_the_middle(
    full: Full, tmp_path: Path
) -> None:
    run = house(tmp_path / "data", old=full.store(tmp_path / "keys"))
    looked = run.json("adopt", "old", "--prefix", "audio/", "--dry-run")
    assert looked["adopted"] == COUNT + 1, "it reads nothing, so it cannot tell what is no sound"
    assert run.json("ls") == {"items": [], "next_cursor": None}

    command = run.command("adopt", "old", "--prefix", "audio/")
    with subprocess.Popen(command, env=run.environment(), stdout=subprocess.DEVNULL) as process:
        eventually(lambda: tracks_in(tmp_path / "data" / "catalog.db"))
        process.send_signal(signal.SIGKILL)

    again = run.json("adopt", "old", "--prefix", "audio/", fails=1)
    assert again["adopted"] + again["there_already"] == COUNT
    assert [(each["key"], each["code"]) for each in again["refused"]] == [
        ("audio/notes.txt", "not_audio")
    ]
    third = run.json("adopt", "old", "--prefix", "audio/", fails=1)
    assert (third["adopted"], third["adopted_bytes"], third["there_already"]) == (0, 0, COUNT)

    assert full.is_untouched()
    assert run.json("check")["passed"]
    assert {(track["id"], track["metadata"]["mood"]) for track in run.json("ls")["items"]} == {
        (f"song-{n}", f"nr {n}") for n in range(COUNT)
    }
    shown = run.json("show", "song-7")
    assert shown["metadata"] == {"mood": "nr 7", "ü": [7]}
    assert shown["storage_locations"]["old"]["locator"] == "audio/song-7.mp3"
    kept = {file.read_bytes() for file in (tmp_path / "data" / "base" / "blobs").glob("*")}
    assert kept == set(full.sounds.values())
    known = {each["key"] for each in run.json("orphans", "old")["items"][0]["orphans"]}
    assert not {key for key in known if key.startswith("audio/song")}


def test_an_old_cid_is_adopted_as_it_is_and_verified_by_our_hashes(tmp_path: Path) -> None:
    sound = wav(700_000, 5)
    with fake_pinata() as pinata:
        token = tmp_path / "jwt"
        token.write_text(TOKEN)
        provider = {
            "kind": "pinata",
            "token": f"file:{token}",
            "url": pinata.url,
            "upload_url": pinata.url,
            "gateway": pinata.url,
        }
        web3 = {"kind": "ipfs", "public_url": f"{pinata.url}/ipfs", "providers": [provider]}
        other = house(tmp_path / "first", web3=web3)
        (tmp_path / "a.wav").write_bytes(sound)
        other("add", tmp_path / "a.wav", "--visibility", "public")
        cid = next(iter(pinata.held()))

        run = house(tmp_path / "data", web3=web3)
        run("adopt", "web3", fails=3)
        adopted = run.json("adopt", "web3", cid)
        assert (adopted["adopted"], adopted["refused_count"]) == (1, 0)
        [track] = run.json("ls")["items"]
        shown = run.json("show", track["id"])
        assert shown["storage_locations"]["web3"]["locator"] == cid
        with urllib.request.urlopen(shown["cdn_url"], timeout=20) as answer:
            assert answer.read() == sound
        assert run.json("adopt", "web3", cid)["there_already"] == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nowhere"], 2),
        (["base", "a.wav", "--prefix", "x"], 2),
        (["base", "missing.wav"], 1),
    ],
)
def test_what_cannot_be_adopted_from_is_said(tmp_path: Path, words: list[str], code: int) -> None:
    house(tmp_path / "data")("adopt", *words, fails=code)
