"""A program that is forked is what it is when it is started, and dies as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.commands import Program, program
from servers import warm
from servers.soundkeep import running
from sounds import wav


@pytest.mark.parametrize("words", [("--help",), ("ls",), ("nonsense",)], ids=" ".join)
def test_it_says_the_same_and_ends_the_same(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = program(tmp_path / "data")
    forked = warm.run(run.command(*words), None, 60, run.environment())
    monkeypatch.setenv(warm.COLD, "1")
    started = warm.run(run.command(*words), None, 60, run.environment())
    assert (forked.stdout, forked.stderr) == (started.stdout, started.stderr)
    assert forked.returncode == started.returncode


def test_it_reads_its_standard_input_and_has_its_own_environment(tmp_path: Path) -> None:
    sound = wav(200_000, seed=5)
    for name in ("a", "b"):
        run = Program(environ={"SOUNDKEEP_DATA": str(tmp_path / name)})
        run("add", "-", "--id", "one", given=sound)
        assert run("get", "one", "-o", "-").stdout == sound
        assert (tmp_path / name / "catalog.db").exists()


def test_its_directory_is_the_one_that_is_given(tmp_path: Path) -> None:
    script = tmp_path / "where.py"
    script.write_text("import os, sys; print(os.getcwd(), *sys.argv[1:])")
    for cold in ({}, {"PYTHONHASHSEED": "1"}):
        command = [sys.executable, "-P", str(script), "a b"]
        environment = os.environ | cold
        with warm.Popen[bytes](
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.is_warm is not bool(cold), "what changes Python is not forked"
            said, _ = process.communicate(timeout=60)
        assert said.decode() == f"{tmp_path} a b\n"
        assert process.returncode == 0


def test_a_signal_ends_it_and_no_other_holds_its_files(tmp_path: Path) -> None:
    with running(tmp_path / "a") as first, running(tmp_path / "b") as second:
        assert first.process.is_warm
        assert not connections(first.process.pid) & connections(second.process.pid)
        first.kill()
        assert first.process.returncode == -signal.SIGKILL
        assert not Path(f"/proc/{first.process.pid}").exists()
        assert second.process.poll() is None
        assert second.stop() == 0


def connections(pid: int) -> set[str]:
    """The pipes and sockets that a process holds, but for its standard files."""
    links = {f.name: str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir()}
    return {
        link
        for number, link in links.items()
        if int(number) > 2 and link.startswith(("pipe:", "socket:"))
    }
