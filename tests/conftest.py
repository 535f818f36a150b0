"""Fixtures for every test: real databases, real S3 servers, and providers of speech."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import migrations
from servers.fake_provider import Fake, running
from servers.postgres import Postgres, running_postgres
from servers.rclone_s3 import running_rclone
from servers.s3_plain import Bucket
from servers.seaweed import SeaweedFS, running_seaweed
from servers.sqld import Sqld, running_sqld

# Machines are shared: how long an example takes, or takes to make, says nothing.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def _catalogs() -> Iterator[None]:
    """An empty one is brought up to date as the first was."""
    with migrations.said_again():
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole run, started when a test first needs it."""
    with running_postgres(is_hasty=True) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database of the test's own, as a SQLAlchemy URL."""
    with postgres.fresh_database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database that does not exist yet, as a SQLAlchemy URL."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database: the test runs on SQLite and on PostgreSQL."""
    url = request.getfixturevalue(f"{request.param}_url")
    assert isinstance(url, str)
    return url


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedFS]:
    """A SeaweedFS for the whole run. A test that kills it starts one of its own."""
    with running_seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3() -> Iterator[Bucket]:
    """A bucket in rclone's S3, for the whole run."""
    with running_rclone() as bucket:
        yield bucket


@pytest.fixture(scope="session")
def sqld() -> Iterator[Sqld]:
    """A server of libSQL for the whole run. A test that kills it starts one of its own."""
    with running_sqld() as server:
        yield server


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
