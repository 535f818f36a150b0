"""Players of this machine: whichever is installed, the most capable first."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from soundkeep.errors import SoundkeepError


@dataclass(frozen=True, slots=True)
class Player:
    """A program that plays a file and ends with it."""

    program: str
    options: tuple[str, ...] = ()
    only_wav: bool = False

    async def play(self, file: Path) -> None:
        """Plays the whole file. Raises `SoundkeepError` if the player fails, as where there is no
        sound card."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            *self.options,
            file,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            raise
        if process.returncode:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise SoundkeepError(f"{self.program} could not play it: {' '.join(last)}")


PLAYERS = (
    Player("ffplay", ("-nodisp", "-autoexit", "-loglevel", "error")),
    Player("mpv", ("--no-video", "--really-quiet")),
    Player("afplay"),
    Player("paplay", only_wav=True),
    Player("aplay", ("-q",), only_wav=True),
)


def find_player() -> Player | None:
    """The first that is installed."""
    return next((player for player in PLAYERS if shutil.which(player.program)), None)
