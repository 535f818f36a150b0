"""A server with three engines behind its gateways, each with prices, and the clients of its doors.

The engines call a provider once: what is counted there are the calls that a client's own retries
have caused.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers.fake_provider import API_KEY, Fake
from servers.soundkeep import Server, running

# In the currency of `dear` the budget is enough for ten characters.
SETTINGS = """
data = "{data}"
[speech]
engine = "offline"
budget = 100000
voices = {{storyteller = "en-us", robot = "nova"}}
[speech.engines.offline]
kind = "espeak"
[speech.engines.compatible]
kind = "openai"
base_url = "{openai}/v1"
api_key = "env:PROVIDER_KEY"
voices = ["alloy", "ash", "coral", "echo", "nova"]
captions = false
price = 15
tries = 1
[speech.engines.eleven]
kind = "elevenlabs"
base_url = "{elevenlabs}"
api_key = "env:PROVIDER_KEY"
voice = "21m00Tcm4TlvDq8ikWAM"
price = 100
tries = 1
[speech.engines.dear]
kind = "openai"
base_url = "{openai}/v1"
api_key = "env:PROVIDER_KEY"
voices = ["nova"]
captions = false
price = 10000000
currency = "EUR"
tries = 1
"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, openai_process: Fake, elevenlabs_process: Fake
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateways")
    config = folder / "soundkeep.toml"
    urls = {"openai": openai_process.url, "elevenlabs": elevenlabs_process.url}
    config.write_text(SETTINGS.format(data=folder / "data", **urls))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVIDER_KEY", API_KEY)
        with running(folder / "data", CONFIG=str(config)) as server:
            yield server
