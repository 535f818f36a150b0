"""What goes wrong is one line and an exit code, never a traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cli.commands import Program, program, tree

PUBLIC_ONLY = """
[policy]
keep = ["disk"]
[stores.disk]
kind = "local"
path = "a"
public = true
"""


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("nonsense = 1", "there is no such setting"),
        ("[policy]\nkeep = ['nope']", "there is no store 'nope'"),
        (PUBLIC_ONLY, "no store that may hold a private track"),
        ("this is not TOML", "not valid TOML"),
        ("[limits]\ntypes = ['midi']", "unknown audio types"),
        ("[stores.disk]\nkind = 'tape'", "stores.disk"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_line(table: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "soundkeep.toml"
    file.write_text(table)
    done = Program(("--config", str(file), "--data", str(tmp_path / "data")))("ls", fails=2)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert what in lines[0]
    assert not (tmp_path / "data").exists()


def test_a_misspelt_variable_is_one_line(tmp_path: Path) -> None:
    done = program(tmp_path, SOUNDKEEP_POLCY__KEEP="[]")("ls", fails=2)
    assert b"SOUNDKEEP_POLCY__KEEP names no setting" in done.stderr


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    run = program(tmp_path, SOUNDKEEP_URL="http://127.0.0.1:1", SOUNDKEEP_KEY="k" * 20)
    for words in (("ls",), ("status",), ("add", __file__), ("doctor",)):
        assert len(run(*words, fails=3).stderr.decode().splitlines()) == 1


def test_verbs_of_this_machine_refuse_a_server(tmp_path: Path) -> None:
    run = program(tmp_path, SOUNDKEEP_URL="http://127.0.0.1:1")
    for words in (
        ("serve",),
        ("work",),
        ("settings",),
        ("stores", "list"),
        ("stores", "test", "x"),
        ("stores", "init", "x"),
    ):
        assert b"this machine only" in run(*words, fails=2).stderr


def test_an_unknown_verb_or_option_is_a_usage_error(tmp_path: Path) -> None:
    run = program(tmp_path)
    run("fly", fails=2)
    run("ls", "--colour", "red", fails=2)
    run("add", "a", "b", "--id", "one", fails=2)
    run("rm", fails=2)


def test_a_reader_that_goes_away_ends_a_list_quietly(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    tree(tmp_path / "in", 30, 2_000)
    run("import", tmp_path / "in")
    with subprocess.Popen(
        run.command("ls", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=run.environment(),
    ) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.close()
        assert b"Traceback" not in listing.stderr.read()


def test_the_settings_shown_hide_secrets_and_can_be_a_file(tmp_path: Path) -> None:
    run = program(tmp_path, SOUNDKEEP_ADMIN_KEY="a-very-secret-admin-key")
    shown = run("settings").stdout.decode()
    assert "a-very-secret" not in shown
    file = tmp_path / "again.toml"
    file.write_text("".join(line for line in shown.splitlines(True) if "admin_key" not in line))
    again = Program(("--config", str(file)))("settings").stdout.decode()
    assert again.splitlines()[1:] == [
        line for line in shown.splitlines()[1:] if "admin_key" not in line
    ]


def test_the_version_is_told_and_completion_is_offered(tmp_path: Path) -> None:
    assert program(tmp_path)("--version").stdout.startswith(b"soundkeep ")
    assert b"--install-completion" in program(tmp_path)("--help").stdout
