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


THEIRS = wav(40_000, 8)  # another sound than the table says


def test_what_a_table_claims_is_read_and_nothing_of_others_is_overwritten(tmp_path: Path) -> None:
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
    (there / "tune 1.wav").write_bytes(THEIRS)
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

    [failed] = run.json("status", "--failed")["items"]
    assert (failed["store"], failed["state"]) == ("cdn", "doubted")
    assert "claim_not_true" in failed["last_error"]
    assert "another sound lies at old/tune 1.wav in cdn" in failed["last_error"]
    assert "`soundkeep sync t-1 --store cdn --delete`" in failed["last_error"]
    assert not run.json("check", fails=1)["passed"]
    assert (there / "tune 1.wav").read_bytes() == THEIRS
    assert run.json("show", "t-1")["cdn_url"] is None
    for n in (0, 2):
        assert run.json("show", f"t-{n}")["cdn_url"] == f"https://cdn.test/old/tune%20{n}.wav"
        assert (there / f"tune {n}.wav").read_bytes() == wav(40_000, n)
    for n in range(3):
        claimed = "bucket" in run.json("show", f"t-{n}")["storage_locations"]
        assert claimed == (n == 0), "only what was claimed"
    assert not (tmp_path / "data" / "cdn" / "audio").exists()
    assert (tmp_path / "data" / "bucket" / "audio" / "t-0.wav").read_bytes() == wav(40_000, 0)

    run("sync", "t-1", "--store", "cdn", "--delete", "--wait")
    run("sync", "t-1", "--store", "cdn", "--wait")
    assert (there / "tune 1.wav").read_bytes() == THEIRS, "also when it is pushed there once more"
    assert (tmp_path / "data" / "cdn" / "audio" / "t-1.wav").read_bytes() == wav(40_000, 1)
    assert run.json("check")["passed"]


def test_nothing_is_written_over_before_the_claim_was_looked_at(tmp_path: Path) -> None:
    """The store is one of those that every upload is written to at once."""
    stores = {"cdn": STORES["cdn"], "base": STORES["base"]}
    run = program(
        tmp_path / "data",
        SOUNDKEEP_STORES=json.dumps(stores),
        SOUNDKEEP_POLICY__KEEP='["cdn", "base"]',
    )
    theirs = tmp_path / "data" / "cdn" / "audio" / "t-0.wav"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(THEIRS)
    (tmp_path / "0.wav").write_bytes(wav(40_000, 0))
    (tmp_path / "t.csv").write_text('id,audio,said\nt-0,0.wav,"{""r2_cdn"": true}"\n')
    columns = "id=id,audio=audio,said=claims"
    words = ("--csv", tmp_path / "t.csv", "--map", columns, "--files", tmp_path)
    run("import", *words, "--claims", "r2_cdn=cdn", "--visibility", "public")
    assert theirs.read_bytes() == THEIRS
    [failed] = run.json("status", "--failed")["items"]
    assert "claim_not_true" in failed["last_error"]
    assert run("get", "t-0", "--output", "-").stdout == wav(40_000, 0)


def test_a_claim_of_a_store_that_nobody_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,audio\n")
    words = ("--csv", tmp_path / "t.csv", "--map", "id=id,audio=audio", "--claims", "x=nowhere")
    program(tmp_path / "data")("import", *words, fails=2)
