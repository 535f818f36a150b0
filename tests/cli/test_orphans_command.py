"""`orphans` over stores of every kind: what cannot be listed is said, and is no failure."""

from __future__ import annotations

import json
from pathlib import Path

from cli.commands import program

NODE = {"kind": "kubo", "url": "http://127.0.0.1:9"}
STORES = {
    "disk": {"kind": "local", "path": "disk"},
    "far": {"kind": "ipfs", "network": "private", "providers": [NODE]},
}


def test_a_store_that_cannot_be_listed_fails_only_if_it_is_asked_for(tmp_path: Path) -> None:
    run = program(tmp_path, SOUNDKEEP_STORES=json.dumps(STORES), SOUNDKEEP_POLICY__KEEP='["disk"]')
    said = run.json("orphans")
    assert [item["store"] for item in said["items"]] == ["disk"]
    assert (said["unlisted"], said["failed"]) == (["far"], {})
    assert "far: cannot list what it holds" in run("orphans").stdout.decode()
    assert "cannot list" in run.json("orphans", "far", fails=1)["failed"]["far"]


def test_what_a_rebuild_left_is_not_removed_and_the_exit_code_says_so(tmp_path: Path) -> None:
    run = program(tmp_path)
    run("doctor", fails=0)
    left = tmp_path / "audio" / "tracks" / "lost.json"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text('{"soundkeep": {"version": 9}}')
    [disk] = run.json("orphans", "disk", "--execute", fails=1)["items"]
    assert (disk["unread"], disk["orphan_count"], disk["removed_count"]) == (
        ["tracks/lost.json"],
        1,
        0,
    )
    said = run("orphans", "disk", fails=0)
    assert b"tracks/lost.json  was never read" in said.stdout
    assert b"`soundkeep rebuild --from disk` (of a private store) takes in" in said.stderr
    assert left.exists()
