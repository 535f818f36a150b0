"""Providers for the tests of engines: one process of each for the whole run, well at the start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers.fake_provider import Fake, running


@pytest.fixture(scope="session")
def elevenlabs_process() -> Iterator[Fake]:
    with running("servers.fake_elevenlabs") as fake:
        yield fake


@pytest.fixture(scope="session")
def openai_process() -> Iterator[Fake]:
    with running("servers.fake_openai") as fake:
        yield fake


@pytest.fixture(scope="session")
def kokoro_process() -> Iterator[Fake]:
    with running("servers.fake_openai", "--kokoro") as fake:
        yield fake


@pytest.fixture
def fake_elevenlabs(elevenlabs_process: Fake) -> Fake:
    elevenlabs_process.reset()
    return elevenlabs_process


@pytest.fixture
def fake_openai(openai_process: Fake) -> Fake:
    openai_process.reset()
    return openai_process


@pytest.fixture
def fake_kokoro(kokoro_process: Fake) -> Fake:
    kokoro_process.reset()
    return kokoro_process
