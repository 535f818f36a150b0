"""`import --claims`: where a table says that copies are is looked at, and never believed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from cli.commands import program, wav

STORES = {
    "base": {"kind": "local", "path": "base"},
    "bucket": {"kind": "local", "path": "bucket", "key": "audio/{track_id}.{ext}"},
    "cdn": {
        "kind": "local",
        "path": "cdn",
        "public": True,
        "public_url": "https://cdn.test",
        "key": "audio/{track_id}.{ext}",
    },
}


def test_what_a_table_claims_is_read_and_what_is_not_there_is_written(tmp_path: Path) -> None:
    run = program(
        tmp_path / "data",
        SOUNDKEEP_STORES=json.dumps(STORES),
        SOUNDKEEP_POLICY__KEEP='["base"]',
        SOUNDKEEP_POLICY__ACK_COPIES="1",
    )
    rows = []
    for n in range(3):
        sound = wav(40_000, n)
        (tmp_path / f"{n}.wav").write_bytes(sound)
        locations = {"supabase": n == 0, "r2_cdn": True, "upload_timestamps": {"r2_cdn": "x"}}
        url = f"https://cdn.test/old/tune%20{n}.wav"
        rows.append((f"t-{n}", f"{n}.wav", url, json.dumps(locations)))
    there = tmp_path / "data" / "cdn" / "old"
    there.mkdir(parents=True)
    (there / "tune 0.wav").write_bytes(wav(40_000, 0))
    (there / "tune 1.wav").write_bytes(wav(40_000, 8))  # another sound than they say
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute(
            "CREATE TABLE audio_tracks"
            " (track_id TEXT, file_path TEXT, cdn_url TEXT, storage_locations TEXT)"
        )
        database.executemany("INSERT INTO audio_tracks VALUES (?, ?, ?, ?)", rows)
        database.commit()
    where = ("--database", f"sqlite:///{tmp_path / 'old.db'}", "--table", "audio_tracks")
    claims = ("--claims", "supabase=bucket,r2_cdn=cdn", "--visibility", "public")
    for taken in (3, 0):
        done = run("import", *where, "--files", tmp_path, *claims)
        assert done.stdout.decode().startswith(f"{taken} lines taken; {3 - taken} were there")

    assert run.json("check")["passed"]
    for n in range(3):
        shown = run.json("show", f"t-{n}")
        assert shown["cdn_url"] == f"https://cdn.test/old/tune%20{n}.wav"
        assert (there / f"tune {n}.wav").read_bytes() == wav(40_000, n)
        assert ("bucket" in shown["storage_locations"]) == (n == 0), "only what was claimed"
    assert not (tmp_path / "data" / "cdn" / "audio").exists()
    assert (tmp_path / "data" / "bucket" / "audio" / "t-0.wav").read_bytes() == wav(40_000, 0)


def test_a_claim_of_a_store_that_nobody_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,audio\n")
    words = ("--csv", tmp_path / "t.csv", "--map", "id=id,audio=audio", "--claims", "x=nowhere")
    program(tmp_path / "data")("import", *words, fails=2)
