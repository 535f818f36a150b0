"""`import --csv` and `import --database`: a table of speech goes in by one command, and again."""

from __future__ import annotations

import csv
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from cli.commands import Program, program, wav
from servers.soundkeep import eventually

COLUMNS = ("content_hash", "text", "voice_id", "storage_url")


def table(folder: Path, count: int, *more: tuple[str, ...]) -> Path:
    """A CSV with so many lines that can be taken, and their sounds beside it."""
    path = folder / "assets.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for n in range(count):
            (folder / f"{n}.wav").write_bytes(wav(40_000, n))
            rows.writerow((f"hash-{n}", f"This is text {n}.", "en-us", f"{n}.wav"))
        rows.writerows(more)
    return path


def said(run: Program, *words: object, fails: int = 0) -> list[str]:
    return run("import", *words, fails=fails).stdout.decode().splitlines()


def test_each_line_that_cannot_be_taken_is_named_with_its_reason(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    path = table(
        tmp_path, 3, ("hash-x", "Gone.", "en-us", "gone.wav"), ("hash-y", "Mute.", "", "1.wav")
    )
    looked = said(run, "--csv", path, "--dry-run", fails=1)
    assert looked[0] == "3 lines would be taken; 0 were there already; 2 refused"
    first = said(run, "--csv", path, fails=1)
    assert first[0] == "3 lines taken; 0 were there already; 2 refused"
    assert "  line 4 (hash-x)" in first
    assert "  line 5 (hash-y)" in first
    assert "1 refused: there is no file 'gone.wav'" in first
    assert said(run, "--csv", path, fails=1)[0].startswith("0 lines taken; 3 were there already;")
    (tmp_path / "gone.wav").write_bytes(wav(40_000, 9))
    assert said(run, "--csv", path, "--voice", "en-us")[0] == (
        "2 lines taken; 3 were there already; 0 refused"
    )
    assert run.json("check")["passed"]


def test_a_table_of_a_database_goes_in_with_its_columns_mapped(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    sound = wav(40_000, 1)
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("CREATE TABLE clips (name TEXT, bytes BLOB)")
        database.execute("INSERT INTO clips VALUES ('one', ?)", (sound,))
        database.commit()
    words = ("--database", f"sqlite:///{tmp_path}/old.db", "--table", "clips")
    assert said(run, *words, "--map", "name=id,bytes=audio") == [
        "1 lines taken; 0 were there already; 0 refused"
    ]
    assert run("get", "one", "-o", "-").stdout == sound
    assert b"column" in run("import", *words, fails=2).stderr


def test_killed_in_the_middle_it_goes_on_and_takes_each_line_once(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    path = table(tmp_path, 60)
    catalog = tmp_path / "data" / "catalog.db"

    def kept() -> int:
        if not catalog.exists():
            return 0
        with closing(sqlite3.connect(catalog, timeout=10)) as database:
            try:
                return int(database.execute("SELECT count(*) FROM speeches").fetchone()[0])
            except sqlite3.OperationalError:
                return 0  # its tables are still being made

    with subprocess.Popen(
        run.command("import", "--csv", path, "--batch", 1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=run.environment(),
    ) as process:
        eventually(lambda: kept() >= 5)
        process.send_signal(signal.SIGKILL)
    there = kept()
    assert 5 <= there < 60
    assert said(run, "--csv", path)[0] == (
        f"{60 - there} lines taken; {there} were there already; 0 refused"
    )
    assert kept() == 60
    assert run.json("check")["passed"]


def test_one_source_is_named_and_it_is_of_this_machine(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    path = table(tmp_path, 1)
    run("import", fails=2)
    run("import", tmp_path, "--csv", path, fails=2)
    run("import", "--database", f"sqlite:///{tmp_path}/x.db", fails=2)
    run("import", "--csv", tmp_path / "absent.csv", fails=2)
    far = Program(environ={"SOUNDKEEP_URL": "http://127.0.0.1:9", "SOUNDKEEP_KEY": "k"})
    assert b"this machine only" in far("import", "--csv", path, fails=2).stderr
