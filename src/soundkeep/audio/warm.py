"""Warm processes for work that must not run in ours: one request at a time each, replaced when
they die, overrun or have done much.

One that overruns its time, or whose caller goes away, is ended, so that no answer is ever taken
for another's. One that dies of a request is replaced and asked the same once more: it may have
died of something else. `confined` is what the inside does for itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from soundkeep.audio.confined import LENGTH, framed

Answer = TypeVar("Answer", bound=msgspec.Struct)

START_SECONDS = 20.0


class Overran(Exception):
    """No answer came in time."""


class DoesNotStart(Exception):
    """`str` says why, as far as that is known."""


class Died(Exception):
    """The process ended before its answer did, and so did the next one."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"ended with {exit_code}")
        self.exit_code = exit_code


@dataclass(frozen=True)
class Program(Generic[Answer]):
    """A module of ours that answers requests, and what it is started with.

    After `arguments` it is given our pid. `greeting` is asked of a new process within
    `START_SECONDS` before anything else.
    """

    module: str
    answer: type[Answer]
    arguments: tuple[str, ...] = ()
    greeting: msgspec.Struct | None = None


class WarmProcesses(Generic[Answer]):
    """At most so many as `workers`, started when they are needed. Close it at the end."""

    def __init__(
        self, program: Program[Answer], *, workers: int, seconds: float, requests_each: int
    ) -> None:
        """Whatever a library leaks is given back after `requests_each` requests."""
        self._program = program
        self._seconds = seconds
        self._requests_each = requests_each
        self._places = asyncio.Semaphore(workers)
        self._idle: list[_Process[Answer]] = []
        self._closed = False

    async def ask(self, request: msgspec.Struct, seconds: float | None = None) -> Answer:
        """The answer of one of them, in this time or the usual. Raises `Overran`, `Died`,
        `DoesNotStart`."""
        seconds = seconds or self._seconds
        async with self._places:
            try:
                return await self._ask(await self._take(), request, seconds)
            except Died:
                return await self._ask(await self._start(), request, seconds)

    async def close(self) -> None:
        """Ends the idle ones at once, and busy ones when they have answered."""
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    async def _ask(
        self, process: _Process[Answer], request: msgspec.Struct, seconds: float
    ) -> Answer:
        answer = await _within(seconds, process, request)
        if self._closed or process.requests >= self._requests_each:
            await process.end()
        else:
            self._idle.append(process)
        return answer

    async def _take(self) -> _Process[Answer]:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            await process.end()
        return await self._start()

    async def _start(self) -> _Process[Answer]:
        """One with an empty environment and no file of ours but its three streams."""
        command = (sys.executable, "-I", "-m", self._program.module, *self._program.arguments)
        try:
            started = await asyncio.create_subprocess_exec(
                *command,
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                close_fds=True,
            )
        except OSError as error:
            raise DoesNotStart(error.strerror) from error
        process = _Process(started, self._program.answer)
        if self._program.greeting is not None:
            try:
                await _within(START_SECONDS, process, self._program.greeting)
            except (Overran, Died) as error:
                raise DoesNotStart("it does not answer") from error
        return process


async def _within(seconds: float, process: _Process[Answer], request: msgspec.Struct) -> Answer:
    """An answer in time; else, and whatever else goes wrong, the process is ended."""
    try:
        async with asyncio.timeout(seconds):
            return await process.ask(request)
    except TimeoutError:
        await process.end()
        raise Overran from None
    except BaseException:
        await process.end()
        raise


class _Process(Generic[Answer]):
    def __init__(self, process: asyncio.subprocess.Process, answer: type[Answer]) -> None:
        self._process = process
        self._answer = answer
        self.requests = 0

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, request: msgspec.Struct) -> Answer:
        self.requests += 1
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(framed(request))
            await stdin.drain()
            (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
            return msgspec.msgpack.decode(await stdout.readexactly(length), type=self._answer)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            # It closed its streams, so it is gone or about to be.
            raise Died(await self._process.wait()) from error

    async def end(self) -> None:
        """Kills the process by its pid and waits for it: nothing it does is worth saving."""
        if self.alive:
            self._process.kill()
        await self._process.wait()
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()  # or its pipes warn when the loop is gone
