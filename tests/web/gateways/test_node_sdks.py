"""The official Node SDKs against a real server: only their base URL and their key are changed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from servers.fake_provider import Fake
from servers.processes import dying_with_us
from servers.soundkeep import KEY, Server
from soundkeep.audio.sniff import sniff

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ROOT / ".cache" / "node-sdks" / "node_modules"
NUMBERS = itertools.count(1)
RACHEL = "21m00Tcm4TlvDq8ikWAM"
MODEL = "eleven_multilingual_v2"
LONG = "A long tale goes on and on, sentence after sentence, and nobody minds. " * 14
ENDS_WITHIN_SECONDS = 60


def fresh_text(words: str = "Nobody has asked Node for this before: number") -> str:
    return f"{words} {next(NUMBERS)}."


class Client:
    """A program of tests/node: one call for each line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, name: str, asked: Any = None) -> Any:
        """What the SDK answered. Raises `AssertionError` if that was an error."""
        answer = self._told(name, asked)
        assert "error" not in answer, answer
        return answer

    def error(self, name: str, asked: Any) -> Any:
        """What the SDK raised."""
        return self._told(name, asked)["error"]

    def _told(self, name: str, asked: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, asked]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)


@contextmanager
def running(program: str, server: Server, key: str = KEY) -> Iterator[Client]:
    environment = os.environ | {"NODE_PATH": str(PACKAGES), "SERVER": server.url, "KEY": key}
    process = subprocess.Popen(
        dying_with_us(["node", str(ROOT / "tests" / "node" / program)]),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Client(process)
    finally:
        process.kill()
        process.communicate(timeout=ENDS_WITHIN_SECONDS)


@pytest.fixture(scope="module")
def packages() -> None:
    """As `make test` has brought them, unless the tests are run by themselves."""
    subprocess.run([ROOT / "scripts" / "bring-node-sdks"], check=True, timeout=600)


@pytest.fixture(scope="module")
def openai(server: Server, packages: None) -> Iterator[Client]:
    with running("openai.cjs", server) as client:
        yield client


@pytest.fixture(scope="module")
def elevenlabs(server: Server, packages: None) -> Iterator[Client]:
    with running("elevenlabs.cjs", server) as client:
        yield client


def sound(answer: Any) -> bytes:
    return base64.b64decode(answer["audio"])


def spoken(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tts-1", "voice": "nova", "input": text, **more}


def told(text: str, **more: Any) -> dict[str, Any]:
    return {"voice": RACHEL, "text": text, "modelId": MODEL, **more}


# --- OpenAI ---------------------------------------------------------------------------------


def test_openais_client_hears_it_twice_and_it_is_paid_for_once(
    openai: Client, fake_openai: Fake
) -> None:
    text = fresh_text(LONG)
    first, second = openai("speech", spoken(text)), openai("speech", spoken(text))
    assert sound(first) == sound(second)
    assert sniff(sound(first)).media_type == "audio/mpeg"
    assert first["headers"]["x-soundkeep-cache"] == "miss"
    assert second["headers"]["x-soundkeep-cache"] == "hit"
    assert fake_openai.charges()["charges"] == 1


def test_openais_client_gets_events(openai: Client, fake_openai: Fake) -> None:
    text = fresh_text()
    events = sound(openai("speech", spoken(text, stream_format="sse"))).decode().split("\n\n")
    *pieces, done = [json.loads(event.removeprefix("data: ")) for event in events if event]
    heard = b"".join(base64.b64decode(piece["audio"]) for piece in pieces)
    assert heard == sound(openai("speech", spoken(text)))
    assert done["type"] == "speech.audio.done"


def test_openais_client_lists_models(openai: Client) -> None:
    assert {"tts-1", "dear/tts-1", "espeak-ng", MODEL} <= set(openai("models")["models"])
    assert openai("model", "tts-1-hd")["owned_by"] == "compatible"
    assert openai.error("model", "gpt-9")["name"] == "NotFoundError"


@pytest.mark.parametrize(
    ("more", "fault", "name", "status", "calls"),
    [
        ({"voice": "nobody"}, "", "BadRequestError", 400, 0),
        ({"model": "dear/gpt-9"}, "", "NotFoundError", 404, 0),
        ({"model": "dear/tts-1"}, "", "APIError", 402, 0),
        ({}, "unprocessable", "BadRequestError", 400, 1),
        ({}, "internal", "InternalServerError", 503, 1),
        ({}, "html", "InternalServerError", 502, 1),
        ({}, "cut_off", "InternalServerError", 502, 1),
    ],
)
def test_openais_client_raises_its_own_errors_and_pays_for_no_retry(
    openai: Client, fake_openai: Fake, more: Any, fault: str, name: str, status: int, calls: int
) -> None:
    fake_openai.behave(fault=fault, piece_bytes=512)
    error = openai.error("speech", spoken(fresh_text(), **more))
    assert (error["name"], error["status"]) == (name, status)
    assert fake_openai.charges()["calls"] == calls


@pytest.mark.parametrize("fault", ["rate_limit_exceeded", "unavailable"])
def test_openais_client_tries_again_what_cost_nothing(
    openai: Client, fake_openai: Fake, fault: str
) -> None:
    fake_openai.behave(fault=fault, times=1, retry_after="1")
    assert sound(openai("speech", spoken(fresh_text())))
    assert fake_openai.charges()["charges"] == 1
    assert fake_openai.charges()["calls"] == 2


def test_openais_client_sees_that_a_stream_was_cut(openai: Client, fake_openai: Fake) -> None:
    fake_openai.behave(fault="cut_off", piece_bytes=150_000, piece_seconds=0.5)
    error = openai.error("speech", spoken(fresh_text(LONG)))
    assert error["status"] is None
    assert "terminated" in error["message"]


def test_a_wrong_key_is_an_authentication_error_to_openais_client(
    server: Server, packages: None
) -> None:
    with running("openai.cjs", server, key="wrong") as client:
        assert client.error("speech", spoken("Hello."))["name"] == "AuthenticationError"


# --- ElevenLabs -----------------------------------------------------------------------------


def test_elevenlabs_client_hears_it_in_four_forms_and_it_is_paid_for_once(
    elevenlabs: Client, fake_elevenlabs: Fake
) -> None:
    text = fresh_text(LONG)
    answers = {form: elevenlabs(form, told(text)) for form in ("lines", "convert", "stream")}
    answers["timed"] = elevenlabs("timed", told(text))
    assert len({sound(answer) for answer in answers.values()}) == 1
    assert sniff(sound(answers["convert"])).media_type == "audio/mpeg"
    assert answers["timed"]["characters"] == answers["lines"]["characters"] == text
    assert fake_elevenlabs.charges()["charges"] == 1


def test_elevenlabs_client_lists_voices_and_models(elevenlabs: Client) -> None:
    assert elevenlabs("voices", "Rachel")["voices"] == [RACHEL]
    assert {MODEL, "espeak-ng"} <= set(elevenlabs("models")["models"])


@pytest.mark.parametrize(
    ("more", "fault", "status", "code", "calls"),
    [
        ({"voice": "nobody"}, "", 404, "voice_not_found", 0),
        ({"modelId": "eleven/v9"}, "", 400, "model_not_found", 0),
        ({"modelId": "dear/tts-1", "voice": "nova"}, "", 402, "quota_exceeded", 0),
        ({"text": ""}, "", 422, None, 0),
        ({}, "unprocessable", 400, "engine_refused", 1),
        ({}, "internal", 424, "engine_unavailable", 1),
        ({}, "html", 424, "engine_answered_badly", 1),
        ({}, "cut_off", 424, "engine_answered_badly", 1),
    ],
)
def test_elevenlabs_client_raises_its_own_errors_and_pays_for_no_retry(
    elevenlabs: Client,
    fake_elevenlabs: Fake,
    more: Any,
    fault: str,
    status: int,
    code: str | None,
    calls: int,
) -> None:
    for form in ("timed", "convert"):
        fake_elevenlabs.reset()
        fake_elevenlabs.behave(fault=fault, piece_bytes=512)
        error = elevenlabs.error(form, {**told(fresh_text()), **more})
        assert (error["status"], error["code"]) == (status, code)
        assert fake_elevenlabs.charges()["calls"] == calls


@pytest.mark.parametrize("form", ["timed", "convert", "stream"])
def test_elevenlabs_client_tries_again_what_cost_nothing(
    elevenlabs: Client, fake_elevenlabs: Fake, form: str
) -> None:
    fake_elevenlabs.behave(fault="rate_limit_exceeded", times=1, retry_after="1")
    assert sound(elevenlabs(form, told(fresh_text())))
    assert fake_elevenlabs.charges()["charges"] == 1
    assert fake_elevenlabs.charges()["calls"] == 2


def test_elevenlabs_client_sees_that_a_stream_was_cut(
    elevenlabs: Client, fake_elevenlabs: Fake
) -> None:
    fake_elevenlabs.behave(fault="cut_off", piece_bytes=150_000, piece_seconds=0.5)
    assert elevenlabs.error("stream", told(fresh_text(LONG)))["status"] is None


def test_a_wrong_key_is_told_to_elevenlabs_client(server: Server, packages: None) -> None:
    with running("elevenlabs.cjs", server, key="wrong") as client:
        error = client.error("convert", told("Hello."))
        assert (error["status"], error["code"]) == (401, "invalid_api_key")
