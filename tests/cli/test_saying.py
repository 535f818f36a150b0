"""`say` and `voices`: on a data directory and on a server, with the offline voice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands import Program, program, serving

PARAGRAPHS = (
    "The lamp was lit at dusk. Nobody came up the hill that night.",
    "In the morning there was a letter under the door.",
    "It said nothing at all. She read it twice.",
)
BOOK = "\n\n".join(PARAGRAPHS)


@pytest.fixture(params=["directory", "server"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    if request.param == "directory":
        yield program(tmp_path / "data")
        return
    with serving(tmp_path / "data") as (url, key):
        yield program(tmp_path / "unused", SOUNDKEEP_URL=url, SOUNDKEEP_KEY=key)


def test_after_an_edit_of_one_sentence_one_segment_is_spoken(run: Program, tmp_path: Path) -> None:
    book, out, marks = tmp_path / "book.txt", tmp_path / "book.mp3", tmp_path / "book.json"
    book.write_text(BOOK)
    options = ("--file", book, "--voice", "en-us", "--out", out, "--timings", marks)
    first = run.json("say", *options)
    assert (first["cached"], first["segments"], first["segments_generated"]) == (False, 3, 3)
    assert first["characters_paid"] == sum(map(len, PARAGRAPHS))
    assert out.stat().st_size == first["size_bytes"]
    before = json.loads(marks.read_text())

    edited = BOOK.replace("twice", "again")
    book.write_text(edited)
    second = run.json("say", *options)
    assert (second["cached"], second["segments"], second["segments_generated"]) == (False, 3, 1)
    assert second["characters_paid"] == len(PARAGRAPHS[2])
    after = json.loads(marks.read_text())
    assert after["sentences"][:4] == before["sentences"][:4]
    assert [edited[mark["start"] : mark["end"]] for mark in after["sentences"]] == [
        "The lamp was lit at dusk.",
        "Nobody came up the hill that night.",
        PARAGRAPHS[1],
        "It said nothing at all.",
        "She read it again.",
    ]

    third = run.json("say", *options)
    assert (third["cached"], third["segments_generated"], third["key"]) == (True, 0, second["key"])


def test_what_was_said_is_told_in_words(run: Program, tmp_path: Path) -> None:
    out = tmp_path / "out.mp3"
    said = run("say", "Good morning.", "--out", out).stdout.decode()
    assert f"{out}: 0:01, 2 words; 1 of 1 segments spoken, 13 characters paid, 0 USD" in said
    assert b"it was there: nothing paid" in run("say", "Good morning.", "--out", out).stdout
    marks = tmp_path / "out.vtt"
    run("say", "Good morning.", "--out", out, "--timings", marks)
    assert marks.read_text().startswith("WEBVTT\n")


def test_a_substitute_speaks_where_the_engine_is_out(tmp_path: Path) -> None:
    config = tmp_path / "soundkeep.toml"
    config.write_text(
        '[speech.engines.offline]\nkind = "espeak"\n'
        '[speech.engines.faraway]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n'
        'models = ["tts-1"]\nvoices = ["nova"]\ncaptions = false\ntries = 1\n'
    )
    run = program(tmp_path / "data", SOUNDKEEP_CONFIG=str(config))
    asked = ("say", "Good night.", "--engine", "faraway", "--voice", "nova")
    assert b"faraway" in run(*asked, "--json", fails=3).stderr
    out = tmp_path / "out.mp3"
    told = run(*asked, "--or", "offline/en-us", "--out", out).stdout
    assert b"by the substitute offline" in told
    assert out.stat().st_size > 1000


def test_standard_input_is_said_and_sound_goes_to_standard_output(run: Program) -> None:
    piped = run("say", "--out", "-", "--format", "wav", given=b"From a pipe.\n")
    assert piped.stdout[:4] == b"RIFF"
    named = run("say", "-", "--out", "-", "--format", "wav", given=b"From a pipe.")
    assert named.stdout == piped.stdout
    raw = run("say", "-", "--out", "-", "--format", "pcm_22050", given=b"From a pipe.")
    assert raw.stdout == piped.stdout[44:]


def test_the_name_of_the_file_says_the_format(run: Program, tmp_path: Path) -> None:
    for name, head in (("a.ogg", b"OggS"), ("a.flac", b"fLaC"), ("a.wav", b"RIFF")):
        run("say", "Good morning.", "--out", tmp_path / name)
        assert (tmp_path / name).read_bytes()[:4] == head


def test_figures_and_voices_are_listed(run: Program, tmp_path: Path) -> None:
    run("say", "Good morning.", "--out", tmp_path / "a.mp3")
    assert set(run.json("say", "--stats")) >= {"hits", "misses", "hit_rate", "spent", "saved"}
    assert b"misses" in run("say", "--stats").stdout
    assert "en-us" in [voice["id"] for voice in run.json("voices", "--engine", "offline")["items"]]
    assert b"offline\ten-us\t" in run("voices").stdout


def test_a_text_that_cannot_be_said_is_one_line_on_stderr(run: Program, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Caf\u00e9".encode("latin-1"))
    assert b"UTF-8" in run("say", "--file", latin, "--json", fails=1).stderr
    assert b"no letter" in run("say", "...", "--json", fails=1).stderr
    assert b"'nobody'" in run("say", "Hi.", "--voice", "nobody", "--json", fails=1).stderr
    assert b"not both" in run("say", "Hi.", "--file", latin, fails=2).stderr
    assert b".vtt" in run("say", "Hi.", "--timings", "a.txt", fails=2).stderr


def test_a_book_can_be_planned_instead_of_being_spoken_now(run: Program, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text(BOOK)
    options = ("--file", book, "--voice", "en-us")
    plan = run.json("say", *options, "--plan", "--budget", "1", "--rate", "6000")
    assert (plan["name"], plan["segments"], plan["budget"]) == ("book", 3, 1)
    assert plan["id"] in run("plans", "list").stdout.decode()
    assert b"for a --plan" in run("say", *options, "--budget", "1", fails=2).stderr


def test_a_provider_that_is_out_of_reach_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    paid = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "voice": "x", "tries": 1}
    run = program(tmp_path / "data", SOUNDKEEP_SPEECH__ENGINES=json.dumps({"paid": paid}))
    assert b"paid cannot be reached" in run("say", "Hi.", "--json", fails=3).stderr


# --- playing --------------------------------------------------------------------------------


def player(folder: Path, name: str, script: str) -> str:
    """A PATH with nothing on it but this player."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return str(folder)


def test_a_player_gets_a_file_that_it_can_play(tmp_path: Path) -> None:
    for name, head in (("mpv", "ID3"), ("aplay", "RIFF")):
        heard = tmp_path / f"{name}.heard"
        script = f'for last; do :; done; exec 3<"$last"; read -r line <&3; echo "$line" >{heard}'
        path = player(tmp_path / name, name, script)
        done = program(tmp_path / "data", PATH=path)("say", "Good morning.")
        assert done.stdout.startswith(f"{name}: 0:01".encode())
        assert heard.read_bytes().startswith(head.encode())


def test_a_player_that_fails_is_named(tmp_path: Path) -> None:
    path = player(tmp_path / "broken", "mpv", "echo no sound card >&2; exit 1")
    done = program(tmp_path / "data", PATH=path)("say", "Good morning.", fails=1)
    assert b"mpv could not play it: no sound card" in done.stderr


def test_without_a_player_the_sound_is_left_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    run = program(tmp_path / "data", PATH=os.fspath(tmp_path / "empty"))
    done = run("say", "Good morning.")
    assert b"written to speech.mp3" in done.stderr
    assert (tmp_path / "speech.mp3").stat().st_size > 1000
