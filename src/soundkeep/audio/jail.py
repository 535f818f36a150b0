"""The door to the jail: foreign bytes are decoded in warm processes with caps, never in ours.

A job has a time limit; one that overruns it, or whose caller goes away, costs its process, so
that no answer is ever taken for another's. A job that kills its process is tried once more in a
new one: only bytes that kill two are condemned, for the first may have died of something else.
Processes start when first needed, no more of them than jobs at once, and are replaced after many.
`jail_worker` is the inside.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from soundkeep.audio.formats import Format
from soundkeep.audio.jobs import LENGTH, Findings, Job, framed
from soundkeep.errors import JailFailed, NotAudio
from soundkeep.model import Sound

JOBS_PER_PROCESS = 500  # whatever a codec leaks is given back now and then
START_SECONDS = 20.0


class Jail:
    """A few warm decoding processes. Close it at the end."""

    def __init__(self, *, seconds: float, memory_bytes: int, workers: int = 2) -> None:
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._places = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._closed = False

    async def probe(self, path: Path, format_: Format) -> Sound:
        """What a file is, after at least one decoded frame. Raises `NotAudio`, `JailFailed`."""
        found = await self._do(Job("probe", str(path), format_.demuxer))
        if found.refusal:
            raise NotAudio(f"{format_.name}: {found.refusal}")
        return Sound(
            media_type=format_.media_type,
            extension=format_.extension,
            codec=found.codec,
            duration_seconds=found.duration_seconds,
            bit_rate=found.bit_rate,
            channels=found.channels,
            sample_rate_hz=found.sample_rate_hz,
            tags=found.tags,
        )

    async def tune(self) -> bytes:
        """The sample track as MP3. Raises `JailFailed`."""
        return (await self._do(Job("tune"))).rendered

    async def close(self) -> None:
        """Ends the idle processes at once, and busy ones when their jobs end."""
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    async def _do(self, job: Job) -> Findings:
        async with self._places:
            try:
                return await self._ask(await self._take(), job)
            except _Died:
                return await self._ask_again(job)

    async def _ask_again(self, job: Job) -> Findings:
        try:
            return await self._ask(await _start(self._memory_bytes), job)
        except _Died:
            raise NotAudio("the decoder died of these bytes, twice") from None

    async def _ask(self, worker: _Worker, job: Job) -> Findings:
        try:
            async with asyncio.timeout(self._seconds):
                found = await worker.ask(job)
        except TimeoutError:
            await worker.end()
            raise NotAudio(f"decoding took longer than {self._seconds:g} s") from None
        except BaseException:
            await worker.end()
            raise
        await self._rest(worker)
        return found

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await worker.end()
        return await _start(self._memory_bytes)

    async def _rest(self, worker: _Worker) -> None:
        if self._closed or worker.jobs >= JOBS_PER_PROCESS:
            await worker.end()
        else:
            self._idle.append(worker)


class _Died(Exception):
    """The process ended before its answer did."""


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.jobs = 0

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, job: Job) -> Findings:
        self.jobs += 1
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(framed(job))
            await stdin.drain()
            (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
            return msgspec.msgpack.decode(await stdout.readexactly(length), type=Findings)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise _Died from error

    async def end(self) -> None:
        """Kills the process by its pid and waits for it: nothing it does is worth saving."""
        if self.alive:
            self._process.kill()
        await self._process.wait()
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()  # or its pipes warn when the loop is gone


async def _start(memory_bytes: int) -> _Worker:
    worker = _Worker(await _process(memory_bytes))
    try:
        async with asyncio.timeout(START_SECONDS):
            await worker.ask(Job("hello"))
    except (TimeoutError, _Died) as error:
        await worker.end()
        raise JailFailed("the decoder does not start; `soundkeep doctor` says more") from error
    except BaseException:
        await worker.end()
        raise
    return worker


async def _process(memory_bytes: int) -> asyncio.subprocess.Process:
    """A jail process with an empty environment and no file of ours but its three streams."""
    command = (sys.executable, "-I", "-m", "soundkeep.audio.jail_worker")
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            str(memory_bytes),
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            close_fds=True,
        )
    except OSError as error:
        raise JailFailed(f"the decoder cannot be started: {error.strerror}") from error
