"""The verbs say the same of a data directory and of a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands import Program, program, serving, wav

SOUND = wav(300_000, 1)


@pytest.fixture(params=["directory", "server"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    if request.param == "directory":
        yield program(tmp_path / "data")
        return
    with serving(tmp_path / "data") as (url, key):
        yield program(tmp_path / "unused", SOUNDKEEP_URL=url, SOUNDKEEP_KEY=key)


def test_a_sound_goes_in_is_seen_comes_out_and_is_deleted(run: Program, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(SOUND)
    options = ("--path", "x/a.wav", "--id", "one", "--title", "One", "--metadata", '{"n": 1}')
    added = run.json("add", file, *options)
    assert (added["id"], added["path"], added["title"]) == ("one", "x/a.wav", "One")
    assert added["metadata"] == {"n": 1}

    assert run.json("ls", "--prefix", "x/")["items"][0]["digest"] == added["digest"]
    assert run.json("show", "one")["size_bytes"] == len(SOUND)

    out = tmp_path / "out.wav"
    run("get", "one", "-o", out)
    assert out.read_bytes() == SOUND
    assert run("get", "one", "-o", "-").stdout == SOUND

    assert run.json("status")["tracks"] >= 0
    assert "due now" in run("retry").stdout.decode()
    assert run.json("rm", "one")[0]["id"] == "one"
    run("show", "one", fails=1)


def test_standard_input_is_kept_like_a_file(run: Program) -> None:
    run("add", "-", "--id", "piped", given=SOUND)
    assert run("get", "piped", "-o", "-").stdout == SOUND


def test_one_bad_file_does_not_keep_out_the_good_ones(run: Program, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    good.write_bytes(SOUND)
    bad.write_bytes(b"no sound")
    done = run("add", bad, tmp_path / "absent.wav", good, fails=1)
    assert len(done.stderr.decode().splitlines()) == 2
    assert "good.wav" in done.stdout.decode()


def test_what_is_not_there_is_said_in_one_line(run: Program, tmp_path: Path) -> None:
    for words in (("show", "nope"), ("get", "nope", "-o", tmp_path / "f"), ("rm", "nope")):
        done = run(*words, fails=1)
        assert done.stderr.decode().splitlines() == ["soundkeep: there is no track nope"]
    assert not (tmp_path / "f").exists()
    assert b"there is no store" in run("retry", "--store", "nope", fails=2).stderr


def test_a_track_is_made_in_another_format(run: Program) -> None:
    run("add", "-", "--id", "song", "--path", "x/song.wav", given=wav(200_000, 5))
    [made] = run.json("render", "song", "--format", "opus_48000_32")
    assert (made["path"], made["media_type"]) == ("x/song.opus_48000_32.opus", "audio/ogg")
    assert made["metadata"] == {"rendition_of": "song", "format": "opus_48000_32"}
    assert b"bare samples" in run("render", "song", "--format", "pcm", fails=1).stderr
    run("rm", "song")
    run("show", made["id"], fails=1)


def test_a_prefix_is_deleted_only_when_confirmed(run: Program) -> None:
    for name in ("p/1.wav", "p/2.wav", "q/3.wav"):
        run("add", "-", "--path", name, given=wav(4_000, hash(name)))
    run("rm", "--prefix", "p/", given=b"n\n", fails=1)
    assert len(run.json("ls", "--prefix", "p/")["items"]) == 2
    run("rm", "--prefix", "p/", "--yes")
    assert not run.json("ls", "--prefix", "p/")["items"]
    assert len(run.json("ls", "--prefix", "q/")["items"]) == 1


def test_the_directory_can_be_used_while_a_server_runs_on_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (url, key):
        here = program(tmp_path / "data")
        there = program(tmp_path / "unused", SOUNDKEEP_URL=url, SOUNDKEEP_KEY=key)
        here("add", "-", "--id", "here", given=SOUND)
        there("add", "-", "--id", "there", given=wav(5_000, 2))
        assert there("get", "here", "-o", "-").stdout == SOUND
        assert here("get", "there", "-o", "-").stdout == wav(5_000, 2)


def test_status_says_that_all_copies_share_a_device(tmp_path: Path) -> None:
    assert b"one device" in program(tmp_path / "data")("status").stdout


def test_a_missing_copy_fails_the_check_and_is_named(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("add", "-", "--id", "one", given=SOUND)
    (tmp_path / "data/audio/.soundkeep/store.json").unlink()
    run("add", "-", "--id", "two", given=wav(5_000, 2))
    done = run("check", fails=1)
    assert b"disk" in done.stdout
    assert b"out" in run("status").stdout


@pytest.fixture(params=["directory", "server"])
def public(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """With two public stores, one of which takes small sounds only."""
    data = tmp_path / "data"
    stores = {
        "DISK": {"KIND": "local", "PATH": "audio"},
        "BACKUP": {"KIND": "database"},
        "CDN": {"PUBLIC_URL": "https://cdn.example.org"},
        "MIRROR": {"MAX_BYTES": "9000"},
    }
    for name in ("CDN", "MIRROR"):
        stores[name] |= {"KIND": "local", "PATH": name.lower(), "PUBLIC": "true"}
    settings = {
        f"SOUNDKEEP_STORES__{name}__{field}": text
        for name, table in stores.items()
        for field, text in table.items()
    }
    if request.param == "directory":
        yield program(data, **settings)
        return
    with serving(data, **settings) as (url, key):
        yield program(tmp_path / "unused", SOUNDKEEP_URL=url, SOUNDKEEP_KEY=key)


def test_tracks_are_pushed_and_withdrawn_and_each_says_how_it_stands(public: Program) -> None:
    for name in ("a", "b"):
        public("add", "-", "--id", name, "--path", f"x/{name}.wav", "--visibility", "public",
               given=wav(5_000, ord(name)))  # fmt: skip
    pushed = public.json("sync", "a", "--wait")
    assert pushed["summary"] == {"done": 2, "due": 0, "refused": 0}
    assert [(line["store"], line["state"]) for line in pushed["items"]] == [
        ("cdn", "present"),
        ("mirror", "present"),
    ]
    assert pushed["items"][0]["cdn_url"].startswith("https://cdn.example.org/blobs/")

    shown = public("show", "a").stdout.decode().splitlines()
    assert ["sidecar", "cdn:", "written,"] in [line.split()[:3] for line in shown]

    seen = public.json("sync", "--prefix", "x/", "--delete", "--store", "cdn", "--dry-run")
    assert [line["due"] for line in seen["items"]] == [["leave", "remove_sidecar", "drop"]] * 2
    gone = public.json("sync", "--prefix", "x/", "--delete", "--store", "cdn", "--wait")
    assert [line["state"] for line in gone["items"]] == ["gone", "gone"]
    assert public.json("show", "a")["cdn_url"] is None
    lines = public("sync", "a", "b", "--store", "cdn", "--wait").stdout.decode().splitlines()
    assert [line.split("\t")[:3] for line in lines] == [
        ["a", "cdn", "present"],
        ["b", "cdn", "present"],
    ]


def test_what_cannot_be_pushed_is_said_for_each_track_and_fails_no_other(public: Program) -> None:
    public("add", "-", "--id", "hidden", given=SOUND)
    public("add", "-", "--id", "large", "--visibility", "public", given=SOUND)
    done = public("sync", "hidden", "large", "nope", "--wait", fails=1)
    said = done.stderr.decode()
    assert "hidden is private, and cdn is a public store" in said
    assert "mirror does not take audio/wav" in said
    assert "there is no track nope" in said
    assert b"large\tcdn\tpresent" in done.stdout
    assert b"there is no store nope" in public("sync", "large", "--store", "nope", fails=2).stderr
    assert b"name the tracks" in public("sync", fails=2).stderr
