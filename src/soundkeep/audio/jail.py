"""The door to the jail: foreign bytes are decoded in warm processes with caps, never in ours.

A job has a time limit; one that overruns it, or whose caller goes away, costs its process, so
that no answer is ever taken for another's. A process that dies under a job condemns the job's
bytes, not the jail. Processes start when first needed and are replaced after many jobs.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from pathlib import Path

import msgspec

from soundkeep.audio.formats import Format
from soundkeep.errors import JailFailed, NotAudio
from soundkeep.model import Sound

JOBS_PER_PROCESS = 500
START_SECONDS = 20.0
LENGTH = struct.Struct(">I")


class Job(msgspec.Struct, frozen=True):
    """What a jail process is asked: `probe` a file, or render the `tune`."""

    verb: str
    path: str = ""
    demuxer: str = ""


class Findings(msgspec.Struct, frozen=True):
    """What a probe found. `refusal` says why the bytes are no sound we take."""

    refusal: str = ""
    codec: str = ""
    duration_seconds: float = 0.0
    bit_rate: int | None = None
    channels: int | None = None
    sample_rate_hz: int | None = None
    tags: dict[str, str] = {}
    rendered: bytes = b""


class Jail:
    """A few warm decoding processes. Close it at the end."""

    def __init__(self, *, seconds: float, memory_bytes: int, workers: int = 2) -> None:
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._places = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []

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
        """Ends the idle processes; busy ones end with their jobs."""
        while self._idle:
            await self._idle.pop().end()

    async def _do(self, job: Job) -> Findings:
        async with self._places:
            worker = self._idle.pop() if self._idle else await _start(self._memory_bytes)
            try:
                async with asyncio.timeout(self._seconds):
                    found = await worker.ask(job)
            except TimeoutError:
                await worker.end()
                raise NotAudio(f"decoding took longer than {self._seconds:g} s") from None
            except (asyncio.IncompleteReadError, ConnectionError):
                await worker.end()
                raise NotAudio("the decoder gave up on these bytes") from None
            except BaseException:
                await worker.end()
                raise
            await self._rest(worker)
            return found

    async def _rest(self, worker: _Worker) -> None:
        if worker.jobs < JOBS_PER_PROCESS:
            self._idle.append(worker)
        else:
            await worker.end()


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.jobs = 0

    async def ask(self, job: Job) -> Findings:
        self.jobs += 1
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        message = msgspec.msgpack.encode(job)
        stdin.write(LENGTH.pack(len(message)) + message)
        await stdin.drain()
        (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
        return msgspec.msgpack.decode(await stdout.readexactly(length), type=Findings)

    async def end(self) -> None:
        """Kills the process by its pid and waits for it: nothing it does is worth saving."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()  # or its pipes warn when the loop is gone


async def _start(memory_bytes: int) -> _Worker:
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "soundkeep.audio.jail_worker",
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
    worker = _Worker(process)
    try:
        async with asyncio.timeout(START_SECONDS):
            await worker.ask(Job("hello"))
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
        await worker.end()
        raise JailFailed("the decoder does not start; `soundkeep doctor` says more") from error
    except BaseException:
        await worker.end()
        raise
    return worker
