"""The offline voice's processes: warm, one request at a time each, replaced when they die.

A process that dies of a sentence is replaced and asked the same once more: it may have died of
something else. One that overruns its time, or whose caller goes away, is ended, so that no answer
is ever taken for another's.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from soundkeep.errors import EngineUnavailable
from soundkeep.speech.engines.espeak_worker import LENGTH, NOT_INSTALLED, Line, Said, framed

LINES_PER_PROCESS = 5000  # whatever the library leaks is given back now and then


class Processes:
    """At most so many as `workers`, started when they are needed. Close it at the end."""

    def __init__(self, name: str, *, workers: int, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._places = asyncio.Semaphore(workers)
        self._idle: list[_Process] = []
        self._closed = False

    async def ask(self, line: Line) -> Said:
        """The answer of one of them. Raises `EngineUnavailable`."""
        async with self._places:
            try:
                return await self._ask(await self._take(), line)
            except _Died:
                return await self._ask_again(line)

    async def close(self) -> None:
        """Ends the idle ones at once, and busy ones when they have answered."""
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    async def _ask_again(self, line: Line) -> Said:
        try:
            return await self._ask(await self._start(), line)
        except _Died as died:
            raise EngineUnavailable(f"{self._name}: {died}") from None

    async def _ask(self, process: _Process, line: Line) -> Said:
        try:
            async with asyncio.timeout(self._seconds):
                said = await process.ask(line)
        except TimeoutError:
            await process.end()
            raise EngineUnavailable(
                f"{self._name}: a sentence took longer than {self._seconds:g} s"
            ) from None
        except BaseException:
            await process.end()
            raise
        await self._rest(process)
        return said

    async def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            await process.end()
        return await self._start()

    async def _rest(self, process: _Process) -> None:
        if self._closed or process.lines >= LINES_PER_PROCESS:
            await process.end()
        else:
            self._idle.append(process)

    async def _start(self) -> _Process:
        """One with an empty environment and no file of ours but its three streams."""
        command = (sys.executable, "-I", "-m", "soundkeep.speech.engines.espeak_worker")
        try:
            return _Process(
                await asyncio.create_subprocess_exec(
                    *command,
                    str(os.getpid()),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={},
                    close_fds=True,
                )
            )
        except OSError as error:
            raise EngineUnavailable(f"{self._name} cannot be started: {error.strerror}") from error


class _Died(Exception):
    """The process ended before its answer did. `str` says why."""


class _Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines = 0

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, line: Line) -> Said:
        self.lines += 1
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(framed(line))
            await stdin.drain()
            (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
            return msgspec.msgpack.decode(await stdout.readexactly(length), type=Said)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _Died(await self._why()) from error

    async def end(self) -> None:
        """Kills the process by its pid and waits for it: nothing it does is worth saving."""
        if self.alive:
            self._process.kill()
        await self._process.wait()
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()  # or its pipes warn when the loop is gone

    async def _why(self) -> str:
        """It closed its streams, so it is gone or about to be."""
        if await self._process.wait() == NOT_INSTALLED:
            return "the offline voice is not installed; it is the extra soundkeep[voice]"
        return "the offline voice died of a sentence, twice"
