"""For people who write stores or engines: the contracts as tests, and stores that fail on purpose.

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self): ...

An engine's contract is `EngineContract`, with a fixture `engine`. Nothing here needs a test runner,
so `soundkeep stores test NAME` runs the same contract against a store that is set up.
`docs/adding-a-store.md` goes through it.
"""

from soundkeep.testing.contract import StoreContract
from soundkeep.testing.engine_contract import EngineContract
from soundkeep.testing.faulty import Fault, FaultyStore
from soundkeep.testing.running import Outcome, run_contract
from soundkeep.testing.sources import BytesSource

__all__ = [
    "BytesSource",
    "EngineContract",
    "Fault",
    "FaultyStore",
    "Outcome",
    "StoreContract",
    "run_contract",
]
