"""`soundkeep doctor`: what it finds here, and what it finds of servers good and poor."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cli.commands import program, serving, wav
from soundkeep.cli import ephemeral


def verdicts(findings: list[dict[str, str]], what: str) -> list[str]:
    return [finding["verdict"] for finding in findings if what in finding["what"]]


def test_an_installation_that_is_not_there_yet_is_left_unmade(tmp_path: Path) -> None:
    findings = program(tmp_path / "data").json("doctor")
    assert verdicts(findings, "does not exist yet") == ["warn"]
    assert not (tmp_path / "data").exists()


def test_a_sound_installation_has_nothing_that_fails(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("add", "-", "--id", "one", given=wav(5_000))
    findings = run.json("doctor")
    assert verdicts(findings, "store disk") == verdicts(findings, "store backup") == ["ok"]
    assert verdicts(findings, "decoder") == verdicts(findings, "clock") == ["ok"]
    assert verdicts(findings, "one device") == ["warn"]


def test_engines_are_asked_for_their_voices(tmp_path: Path) -> None:
    config = tmp_path / "soundkeep.toml"
    config.write_text(f"""
data = "{tmp_path / "data"}"
[speech.engines.offline]
kind = "espeak"
[speech.engines.misspelt]
kind = "espeak"
voice = "en-uss"
[speech.engines.away]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
""")
    run = program(tmp_path / "data", SOUNDKEEP_CONFIG=str(config))
    run("add", "-", "--id", "one", given=wav(5_000))
    findings = run.json("doctor", fails=1)
    assert verdicts(findings, "engine offline: ") == ["ok"]
    assert verdicts(findings, "engine misspelt: it has no voice 'en-uss'") == ["fail"]
    assert verdicts(findings, "engine away cannot be reached") == ["warn"]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory on tmpfs, as a container may have it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def test_what_would_end_with_a_container_is_named(memory: Path) -> None:
    run = program(memory / "data")
    run("add", "-", "--id", "one", given=wav(5_000))
    findings = run.json("doctor")
    for what in ("catalog: ", "store disk: ", "store backup: ", "inbox: "):
        assert verdicts(findings, f"{what}{memory}") == ["warn"], what
    assert verdicts(findings, "temporary: true") == ["warn"]
    none_waited_for = program(memory / "data", SOUNDKEEP_POLICY__ACK_COPIES="0").json("doctor")
    assert verdicts(none_waited_for, "while nothing else has them") == ["warn"]


def test_a_key_that_would_end_with_a_container_is_named(memory: Path) -> None:
    new_key = "a new disk has a new key"
    run = program(memory / "data")
    run("add", "-", "--id", "one", given=wav(5_000))
    assert verdicts(run.json("doctor"), new_key) == ["warn"]
    set_once = program(memory / "data", SOUNDKEEP_ADMIN_KEY="a-key-for-tests-only")
    assert not verdicts(set_once.json("doctor"), new_key)


def test_mount_points_with_spaces_are_read_as_the_kernel_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\nnone /my\\040data tmpfs rw 0 0\nx /my\\040data/deep xfs rw 0 0\n"
    )
    monkeypatch.setattr(ephemeral, "MOUNTS", mounts)
    places = {"/my data/audio": "tmpfs", "/my data/deep/er": "xfs", "/my": "ext4"}
    assert {place: ephemeral.file_system(Path(place)) for place in places} == places
    monkeypatch.setattr(ephemeral, "MOUNTS", tmp_path / "none")
    assert ephemeral.file_system(Path("/my data")) == ""


def test_another_directory_in_a_stores_place_fails_with_a_next_step(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("add", "-", "--id", "one", given=wav(5_000))
    (tmp_path / "data/audio").rename(tmp_path / "gone")
    (tmp_path / "data/audio").mkdir()
    findings = run.json("doctor", fails=1)
    assert verdicts(findings, "store disk") == ["fail"]
    assert all(finding["step"] for finding in findings if finding["verdict"] == "fail")


def test_bad_settings_fail_and_nothing_else_is_looked_at(tmp_path: Path) -> None:
    findings = program(tmp_path, SOUNDKEEP_POLICY__KEEP='["x"]').json("doctor", fails=1)
    assert [finding["verdict"] for finding in findings] == ["fail"]


def test_our_own_server_passes_every_trial(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (url, key):
        run = program(tmp_path / "unused")
        run("--url", url, "--key", key, "add", "-", "--id", "one", given=wav(600_000))
        for words in (("--url", url), ("--url", f"{url}/audio/one", "--key", key)):
            findings = run.json("doctor", *words)
            assert len(findings) > 15
            assert {finding["verdict"] for finding in findings} == {"ok"}


class Poor(BaseHTTPRequestHandler):
    """Answers 206 with the right header and the first bytes, whatever was asked for."""

    SOUND = wav(5_000)

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        body = self.SOUND[:1] if asked else self.SOUND
        self.send_response(206 if asked else 200)
        if asked == "bytes=-1":
            last = len(self.SOUND) - 1
            self.send_header("Content-Range", f"bytes {last}-{last}/{len(self.SOUND)}")
        self.send_header("Content-Type", "audio/wav")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_poor_server_is_found_out_even_when_only_its_bytes_are_wrong(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Poor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/x.wav"
            findings = program(tmp_path).json("doctor", "--url", url, fails=1)
        finally:
            server.shutdown()
            thread.join()
    assert verdicts(findings, "Content-Type") == ["ok"]
    for what in ("strong ETag", "Accept-Ranges", "bytes=-1:", "beyond the end"):
        assert verdicts(findings, what) == ["fail"]
