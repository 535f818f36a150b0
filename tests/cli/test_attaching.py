"""`import --attach`: files find the lines and the tracks that they belong to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.commands import Program, program, wav


@pytest.fixture
def run(tmp_path: Path) -> Program:
    return program(tmp_path / "data")


def files(folder: Path, **sounds: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in sounds.items():
        (folder / f"{name}.wav").write_bytes(content)
    return folder


def said(run: Program, *words: object, fails: int = 0) -> list[str]:
    return run("import", *words, fails=fails).stdout.decode().splitlines()


def table(tmp_path: Path, *rows: tuple[str, str, bytes | None]) -> tuple[object, ...]:
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("CREATE TABLE audio_materials (id TEXT, title TEXT, audio_blob BLOB)")
        database.executemany("INSERT INTO audio_materials VALUES (?, ?, ?)", rows)
        database.commit()
    url = f"sqlite:///{tmp_path / 'old.db'}"
    return "--database", url, "--table", "audio_materials", "--map", "id=id"


def test_a_row_whose_blob_is_null_has_the_file_of_its_id(run: Program, tmp_path: Path) -> None:
    rows = [("m-1", "One", wav(30_000, 1)), ("m-2", "Two", None), ("m-3", "Three", None)]
    where = table(tmp_path, *rows)
    folder = files(tmp_path / "audio", **{"m-2": wav(30_000, 2), "stray": wav(30_000, 9)})
    assert said(run, *where, fails=1)[0].startswith("1 lines taken; 0 were there already; 2")

    lines = said(run, *where, "--files", folder, "--attach", "id", fails=1)
    assert lines[0] == "1 lines taken; 1 were there already; 1 refused"
    assert "  line 3 (m-3)" in lines or any("no file is called so" in line for line in lines)
    assert lines[-1] == "no line is without audio for  stray.wav"
    shown = run.json("show", "m-2")
    assert shown["title"] == "Two"
    run("get", "m-2", "--output", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == wav(30_000, 2)


def test_a_row_finds_its_file_by_its_title_and_two_files_are_no_answer(
    run: Program, tmp_path: Path
) -> None:
    where = table(tmp_path, ("m-1", "Rain", None), ("m-2", "Wind", None))
    folder = files(tmp_path / "audio", Rain=wav(30_000, 1), Wind=wav(30_000, 2))
    files(folder / "again", Wind=wav(30_000, 3))
    lines = said(run, *where, "--files", folder, "--attach", "name", fails=1)
    assert lines[0] == "1 lines taken; 0 were there already; 1 refused"
    assert "1 refused: several files are called 'Wind': Wind.wav, again/Wind.wav" in lines
    assert run.json("show", "m-1")["title"] == "Rain"


def test_files_go_to_the_tracks_that_are_there_and_other_audio_is_refused(
    run: Program, tmp_path: Path
) -> None:
    folder = files(tmp_path / "audio", one=wav(30_000, 1), two=wav(30_000, 2))
    assert said(run, folder, "--prefix", "x/")
    files(folder, two=wav(30_000, 5), three=wav(30_000, 3))
    lines = said(run, folder, "--attach", "name", fails=1)
    assert lines[0] == "1 tracks have their file; 2 files refused; 1 tracks without a file"
    assert lines[1] == "refused  three.wav: there is no track for it"
    assert lines[2].startswith("refused  two.wav: the id ")
    assert lines[3].endswith("  x/two.wav")
