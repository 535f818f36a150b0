"""`soundkeep plans` steers what is spoken in advance, on a server and on the directory itself."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.commands import Program, program, serving
from servers.soundkeep import eventually

CLOSED = {"text": "It waits.\n\nSo does this.", "voice": "en-us", "name": "later", "rate": 0.001}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    with serving(tmp_path / "data") as found:
        yield found


@pytest.fixture(params=["directory", "server"])
def run(request: pytest.FixtureRequest, server: tuple[str, str], tmp_path: Path) -> Program:
    if request.param == "directory":
        return program(tmp_path / "data")
    url, key = server
    return program(tmp_path / "unused", SOUNDKEEP_URL=url, SOUNDKEEP_KEY=key)


def make(server: tuple[str, str], fields: dict[str, Any]) -> Any:
    url, key = server
    request = urllib.request.Request(
        f"{url}/api/speech/plans",
        json.dumps(fields).encode(),
        {"Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_plan_is_listed_shown_paused_resumed_and_cancelled(
    server: tuple[str, str], run: Program
) -> None:
    plan = make(server, CLOSED)["id"]
    eventually(lambda: run.json("plans", "show", plan)["segments_done"] == 1)
    assert [each["id"] for each in run.json("plans", "list")["items"]] == [plan]
    line = run("plans", "list").stdout.decode().strip().split("\t")
    assert line[:4] == [plan, "later", "running", "1/2"]
    assert run.json("plans", "pause", plan)["state"] == "paused"
    resumed = run.json("plans", "resume", plan, "--budget", "2.5")
    assert (resumed["state"], resumed["budget"]) == ("running", 2.5)
    eventually(lambda: run.json("plans", "show", plan)["state"] == "done")
    assert run.json("plans", "cancel", plan)["state"] == "cancelled"
    refused = run("plans", "resume", plan, fails=1).stderr.decode()
    assert refused.strip().endswith(f"the plan {plan} is cancelled")
    run("plans", "show", "unheard-of", fails=1)
