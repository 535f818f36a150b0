"""The offline voice's processes, and what it means when one of them fails."""

from __future__ import annotations

from soundkeep.audio.warm import Died, DoesNotStart, Overran, Program, WarmProcesses
from soundkeep.errors import EngineUnavailable
from soundkeep.speech.engines.espeak_worker import NOT_INSTALLED, Line, Said

LINES_PER_PROCESS = 5000


class Processes:
    """At most so many as `workers`, started when they are needed. Close it at the end."""

    def __init__(self, name: str, *, workers: int, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._processes = WarmProcesses(
            Program("soundkeep.speech.engines.espeak_worker", Said),
            workers=workers,
            seconds=seconds,
            requests_each=LINES_PER_PROCESS,
        )

    async def ask(self, line: Line) -> Said:
        """The answer of one of them. Raises `EngineUnavailable`."""
        try:
            return await self._processes.ask(line)
        except Overran:
            why = f"a sentence took longer than {self._seconds:g} s"
        except DoesNotStart as error:
            why = f"it cannot be started: {error}"
        except Died as died:
            why = "the offline voice died of a sentence, twice"
            if died.exit_code == NOT_INSTALLED:
                why = "the offline voice is not installed; it is the extra soundkeep[voice]"
        raise EngineUnavailable(f"{self._name}: {why}")

    async def close(self) -> None:
        """Ends the idle ones at once, and busy ones when they have answered."""
        await self._processes.close()
