"""`soundkeep work --until-idle`: what a timer runs, and what it is told."""

from __future__ import annotations

import shutil
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
