"""`soundkeep work --until-idle`: what a timer runs, and what it is told."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from cli.commands import program, wav

SOUND = wav(5_000, 1)


def test_what_waited_for_a_store_is_done_and_then_it_ends(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("add", "-", given=SOUND)
    (tmp_path / "data/audio").rename(tmp_path / "unplugged")
    run("add", "-", given=wav(5_000, 2))
    run("check", fails=1)
    (tmp_path / "unplugged").rename(tmp_path / "data/audio")
    assert b"nothing is due any more" in run("work", "--until-idle").stderr
    run("check")


def test_copies_that_wait_for_a_store_that_is_out_are_said(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("add", "-", given=SOUND)
    shutil.rmtree(tmp_path / "data/audio")
    run("add", "-", given=wav(5_000, 2))
    done = run("work", "--until-idle", fails=1)
    assert b"1 copies wait after a failure: soundkeep status" in done.stderr


def test_a_store_is_emptied_by_the_command_that_drains_it(tmp_path: Path) -> None:
    """It tells how things are now, not at some worker's last count."""
    run = program(tmp_path / "data")
    run("add", "-", given=SOUND)
    done = run("stores", "drain", "disk")
    assert b"disk is empty" in done.stdout
    assert not list((tmp_path / "data/audio/blobs").glob("*"))
    run("check")


def test_a_drain_whose_process_died_is_begun_before_anything_is_called_done(
    tmp_path: Path,
) -> None:
    run = program(tmp_path / "data")
    run("add", "-", given=SOUND)
    with closing(sqlite3.connect(tmp_path / "data/catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE stores SET draining_at = ? WHERE name = 'disk'", (time.time(),))
    assert b"nothing is due any more" in run("work", "--until-idle").stderr
    assert not list((tmp_path / "data/audio/blobs").glob("*"))


def test_a_track_that_is_driven_out_of_every_store_is_said_and_stays(tmp_path: Path) -> None:
    """Withdrawn from one, and the only other is emptied: that is nobody's error, and not well."""
    run = program(tmp_path / "data")
    sound = tmp_path / "sound.wav"
    sound.write_bytes(SOUND)
    track = run.json("add", sound)["id"]
    run("sync", track, "--store", "disk", "--delete", "--wait")
    run("check")
    run("stores", "drain", "backup")
    assert run.json("status")["unplaced"] == 1
    told = run("check", fails=1).stdout.decode()
    assert "1 tracks belong in no store" in told
    assert f"  {track}\n" in told
    assert run("get", track, "--output", "-").stdout == SOUND

    run("sync", track, "--store", "disk", "--wait")
    run("check")
    assert run.json("status")["unplaced"] == 0


def test_a_track_that_waits_for_its_key_belongs_there(tmp_path: Path) -> None:
    """The sound that it replaced holds the key until it is gone, which an outage puts off."""
    table = {"kind": "local", "path": "audio", "key": "{owner}/{path}"}
    run = program(
        tmp_path / "data",
        SOUNDKEEP_STORES=json.dumps({"disk": table}),
        SOUNDKEEP_POLICY__KEEP='["disk"]',
    )
    for n, more in ((1, ()), (2, ("--replace",))):
        (tmp_path / "sound.wav").write_bytes(wav(5_000, n))
        run("add", tmp_path / "sound.wav", "--path", "sound.wav", *more)
        if n == 1:
            (tmp_path / "data/audio").rename(tmp_path / "unplugged")
    assert run.json("status")["unplaced"] == 0
    told = run.json("check", fails=1)
    assert (told["temporary"], told["unplaced_tracks"]) == (1, [])
    (tmp_path / "unplugged").rename(tmp_path / "data/audio")
    run("work", "--until-idle")
    run("check")
