"""`soundkeep import`: whole trees, again and again, and after being killed."""

from __future__ import annotations

import hashlib
import subprocess
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from cli.commands import SECONDS, program, serving, tree, wav
from soundkeep.settings.sources import load
from soundkeep.stores.kinds import make_store


def test_a_tree_is_kept_and_what_is_no_audio_is_named(tmp_path: Path) -> None:
    sounds = tree(tmp_path / "in", 5)
    (tmp_path / "in/notes.txt").write_text("not a sound")
    (tmp_path / "in/empty.mp3").touch()
    run = program(tmp_path / "data")
    said = run("import", tmp_path / "in", fails=1).stdout.decode()
    assert "kept 5 files" in said
    assert "2 refused" in said
    assert "notes.txt" in said
    assert "empty.mp3" in said
    listed = run.json("ls")["items"]
    assert {track["path"]: track["digest"] for track in listed} == {
        name: hashlib.sha256(content).hexdigest() for name, content in sounds.items()
    }
    run("check")


async def test_every_file_comes_back_whole_from_each_store_alone(tmp_path: Path) -> None:
    sounds = tree(tmp_path / "in", 4, 600_000)
    run = program(tmp_path / "data")
    run("import", tmp_path / "in", "--prefix", "music/")
    tracks = run.json("ls")["items"]
    settings = load(environ={}).model_copy(update={"data": tmp_path / "data"})
    assert len(tracks) == len(sounds)
    for name, table in settings.stores.items():
        store = make_store(
            name, table, data=settings.data_directory, catalog_url=settings.catalog_url
        )
        for track in tracks:
            locator = track["storage_locations"][name]["locator"]
            async with aclosing(store.open(locator)) as pieces:
                content = b"".join([piece async for piece in pieces])
            assert content == sounds[track["path"].removeprefix("music/")]
        await store.close()


def test_a_second_run_keeps_nothing_twice_and_takes_what_is_new(tmp_path: Path) -> None:
    tree(tmp_path / "in", 3)
    run = program(tmp_path / "data")
    run("import", tmp_path / "in")
    (tmp_path / "in/new.wav").write_bytes(wav(9_000, 77))
    said = run("import", tmp_path / "in").stdout.decode()
    assert "kept 1 files" in said
    assert "3 were there already" in said


def test_other_bytes_under_a_known_path_are_refused_and_named(tmp_path: Path) -> None:
    tree(tmp_path / "in", 2)
    run = program(tmp_path / "data")
    run("import", tmp_path / "in")
    changed = tmp_path / "in/0/sound 0.wav"
    changed.write_bytes(wav(changed.stat().st_size - 44, 99))
    said = run("import", tmp_path / "in", fails=1).stdout.decode()
    assert "1 refused" in said
    assert "0/sound 0.wav" in said


def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    sounds = tree(tmp_path / "in", 40, 200_000)
    run = program(tmp_path / "data")
    blobs = tmp_path / "data/audio/blobs"
    command = run.command("import", tmp_path / "in", "--batch", 2, "--pause", 0.05)
    with subprocess.Popen(command, env=run.environment(), stdout=subprocess.DEVNULL) as killed:
        deadline = time.monotonic() + SECONDS
        while len(list(blobs.rglob("*"))) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert killed.poll() is None
        killed.kill()
    said = run("import", tmp_path / "in").stdout.decode()
    already = int(said.partition(" were there already")[0].rpartition(" ")[2])
    assert 0 < already < len(sounds)
    document = run.json("check")
    assert document["passed"]
    assert document["tracks"] == len(sounds)


def test_links_that_lead_out_and_the_data_directory_are_left_alone(tmp_path: Path) -> None:
    tree(tmp_path / "in", 1)
    (tmp_path / "outside.wav").write_bytes(wav(5_000, 5))
    (tmp_path / "in/out.wav").symlink_to(tmp_path / "outside.wav")
    (tmp_path / "in/broken.wav").symlink_to("nowhere")
    (tmp_path / "in/round").symlink_to(tmp_path / "in")
    run = program(tmp_path / "in/data")
    for _ in range(2):
        said = run("import", tmp_path / "in", fails=1).stdout.decode()
        assert "2 refused" in said
        assert "a link that leads out of the folder" in said
    assert len(run.json("ls")["items"]) == 1


def test_a_server_takes_a_tree_too(tmp_path: Path) -> None:
    tree(tmp_path / "in", 3)
    with serving(tmp_path / "data") as (url, key):
        run = program(tmp_path / "unused", SOUNDKEEP_URL=url, SOUNDKEEP_KEY=key)
        assert "kept 3 files" in run("import", tmp_path / "in").stdout.decode()
        assert "3 were there already" in run("import", tmp_path / "in").stdout.decode()
        assert run.json("check")["passed"]
    assert not (tmp_path / "unused").exists()


def test_a_directory_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    done = program(tmp_path / "data")("import", tmp_path / "nowhere", fails=2)
    assert done.stderr.decode().splitlines() == [f"soundkeep: {tmp_path}/nowhere is no directory"]


SHARED = Path(__file__).resolve().parents[3] / "shared" / "audio"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of awkward sounds is not here")
def test_of_the_awkward_sounds_all_that_decode_are_kept(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("import", SHARED, fails=1)
    document = run.json("check")
    assert document["passed"]
    for track in run.json("ls", "--limit", 0)["items"]:
        digest = hashlib.sha256((SHARED / track["path"]).read_bytes()).hexdigest()
        assert digest == track["digest"]
