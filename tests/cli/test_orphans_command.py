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
