"""`soundkeep doctor`: what it finds here, and what it finds of servers good and poor."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cli.commands import program, serving, wav


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
