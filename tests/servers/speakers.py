"""A process of Soundkeep that has text spoken for many callers at once, and may be killed.

    python -m servers.speakers SETTINGS.json

It reads one command a line from its standard input and answers each with one line: `ask` with what
became of every caller, `begin` as soon as all of them wait, `hang_up` when all of them are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.processes import dying_with_us

TESTS = Path(__file__).resolve().parents[1]
ENDS_WITHIN_SECONDS = 60
OWNER = "anna"


# --- the hand on it -------------------------------------------------------------------------


@dataclass(frozen=True)
class Speaker:
    """A running process of callers, as a test sees it."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, do: str, texts: list[str] | None = None, callers: int = 1) -> None:
        """Sends a command; `callers` ask for each of the texts."""
        command = {"do": do, "texts": texts or [], "callers": callers}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> list[str]:
        """What became of each caller: the digest of what it heard, or the code of its error."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it has ended"
        answers: list[str] = json.loads(line)
        return answers


@contextlib.contextmanager
def speaking(settings: dict[str, Any], file: Path, processes: int) -> Iterator[list[Speaker]]:
    """So many processes over the same catalog and data directory, until the block ends."""
    file.write_text(json.dumps(settings))
    started = [_start(file) for _ in range(processes)]
    try:
        for speaker in started:
            assert speaker.answer() == ["ready"]
        yield started
    finally:
        for speaker in started:
            speaker.process.kill()
            speaker.process.communicate(timeout=ENDS_WITHIN_SECONDS)


def _start(file: Path) -> Speaker:
    command = dying_with_us([sys.executable, "-m", "servers.speakers", str(file)])
    return Speaker(
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TESTS,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
        )
    )


# --- the process ----------------------------------------------------------------------------


async def main(file: Path) -> None:
    from soundkeep.build import opened
    from soundkeep.settings import Settings

    async with opened(Settings(**json.loads(file.read_text()))) as house:
        _say(["ready"])
        commands = await _commands()
        waiting: list[asyncio.Task[str]] = []
        while line := await commands.readline():
            command = json.loads(line)
            if command["do"] == "hang_up":
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
                _say(["gone"])
                continue
            waiting = [
                asyncio.create_task(_call(house.generation, text, number % 2 == 0))
                for text in command["texts"]
                for number in range(command["callers"])
            ]
            if command["do"] == "begin":
                _say(["begun"])
            else:
                _say(await asyncio.gather(*waiting))


async def _call(generation: Any, text: str, as_it_comes: bool) -> str:
    """One caller: half of them hear it as it comes, half once it is kept."""
    from soundkeep.errors import SoundkeepError
    from soundkeep.speech.asked import Asked

    asked = Asked("fake", "tts-1", "nova", text, None, 1, {}, "mp3")
    heard = hashlib.sha256()
    try:
        said = await generation.ask(asked, OWNER)
        pieces = said.pieces() if as_it_comes else generation.bytes_of(await said.segment())
        async with aclosing(pieces):
            async for piece in pieces:
                heard.update(piece)
    except SoundkeepError as error:
        return error.code
    return heard.hexdigest()


async def _commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


def _say(answers: list[str]) -> None:
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(Path(sys.argv[1])))
