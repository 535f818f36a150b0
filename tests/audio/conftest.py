"""A jail for each test that needs one, as the server has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from soundkeep.audio.jail import Jail

MEMORY_BYTES = 1 << 30


@pytest.fixture
async def jail() -> AsyncIterator[Jail]:
    jail = Jail(seconds=60, memory_bytes=MEMORY_BYTES)
    yield jail
    await jail.close()
