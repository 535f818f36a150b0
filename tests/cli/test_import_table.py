"""`import --csv` and `import --database`: a table of speech goes in by one command, and again."""

from __future__ import annotations

import csv
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy.engine import make_url

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


@pytest.fixture
def materials(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A table as Supabase would have it, with the sounds in it, and one who may only read it."""
    with psycopg.connect(plain(postgres_url), autocommit=True) as database:
        database.execute("CREATE SCHEMA app")
        database.execute(
            'CREATE TABLE app."audioMaterials" (material_id uuid PRIMARY KEY, title text,'
            " metadata jsonb, plays bigint, seen timestamptz, audio_blob bytea)"
        )
        yield database


def plain(url: str) -> str:
    """As people write it, without the name of a driver."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def added(materials: psycopg.Connection, number: int, sound: bytes | None) -> str:
    """One line; answers its id."""
    row = (str(UUID(int=number)), f"Nr. {number}: ä", Jsonb({"n": number, "of": None}), sound)
    materials.execute(
        """INSERT INTO app."audioMaterials" VALUES (%s, %s, %s, 7, '2026-10-05 12:00+02', %s)""",
        row,
    )
    return row[0]


def test_sounds_in_a_column_of_postgresql_come_as_they_are(
    tmp_path: Path, postgres_url: str, materials: psycopg.Connection
) -> None:
    sounds = {
        added(materials, n, sound): sound
        for n, sound in enumerate((wav(40_000, 1), wav(4_000, 2), wav(3 * 1024 * 1024, 3)))
    }
    empty, without = added(materials, 3, b""), added(materials, 4, None)
    words = added(materials, 5, "no sound, ä\\x00".encode())
    run = program(tmp_path / "data")
    where = ("--database", plain(postgres_url), "--table", "app.audioMaterials")
    columns = "material_id=id,plays=hits,seen=last_heard"
    looked = said(run, *where, "--map", columns, "--dry-run", fails=1)
    assert looked[0] == "4 lines would be taken; 0 were there already; 2 refused"
    first = said(run, *where, "--map", columns, fails=1)
    assert first[0] == "3 lines taken; 0 were there already; 3 refused"
    assert {line.split("(")[1] for line in first if "(" in line} >= {
        f"{name})" for name in (empty, without, words)
    }
    for number, (name, sound) in enumerate(sounds.items()):
        assert run("get", name, "-o", "-").stdout == sound
        track = run.json("show", name)
        assert track["title"] == f"Nr. {number}: ä"
        assert track["metadata"] == {"n": number, "of": None}
    again = said(run, *where, "--map", columns, fails=1)
    assert again[0] == "0 lines taken; 3 were there already; 3 refused"
    assert run.json("check")["passed"]


def test_a_table_of_postgresql_is_only_read_by_one_who_may_do_no_more(
    tmp_path: Path, postgres_url: str, materials: psycopg.Connection
) -> None:
    name = added(materials, 1, wav(40_000, 1))
    reader = f"reader_{materials.info.dbname}"
    materials.execute(f"CREATE ROLE {reader} LOGIN PASSWORD 'pass-word'")
    try:
        url = make_url(postgres_url).set(username=reader, password="pass-word")
        where = ("--database", plain(url.render_as_string(hide_password=False)), "--table")
        run = program(tmp_path / "data")
        refused = run("import", *where, "app.audioMaterials", fails=2).stderr.decode()
        assert "permission denied" in refused
        assert "pass-word" not in refused
        materials.execute(f"GRANT USAGE ON SCHEMA app TO {reader}")
        materials.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA app TO {reader}")
        mapped = ("app.audioMaterials", "--map", "material_id=id")
        assert said(run, *where, *mapped)[0] == "1 lines taken; 0 were there already; 0 refused"
        assert run("get", name, "-o", "-").stdout == wav(40_000, 1)
        nowhere = run("import", *where, "app.nowhere", fails=2).stderr.decode()
        assert "nowhere" in nowhere
    finally:
        materials.execute(f"DROP OWNED BY {reader}")
        materials.execute(f"DROP ROLE {reader}")


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
