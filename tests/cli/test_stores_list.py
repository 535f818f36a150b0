"""`soundkeep stores list`: what is set, and what can be used."""

from __future__ import annotations

import shutil
from pathlib import Path

from cli.commands import program, wav


def test_a_store_that_cannot_be_used_is_listed_with_the_reason_in_one_line(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("add", "-", given=wav(5_000, 1))
    assert [store["state"] for store in run.json("stores", "list")] == ["up", "up"]
    shutil.rmtree(tmp_path / "data/audio")
    disk, backup = run.json("stores", "list")
    assert (disk["name"], disk["state"], backup["state"]) == ("disk", "out", "up")
    assert disk["error"].startswith("store_misconfigured: ")
    lines = run("stores", "list").stdout.decode().splitlines()
    assert f"disk is out: {disk['error']}" in lines
