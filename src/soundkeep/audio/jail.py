"""The door to the jail: foreign bytes are decoded in warm processes with caps, never in ours.

A job has a time limit. Only bytes that kill two processes are condemned: `warm` asks a second one.
Renderings have processes of their own, so that no upload waits for a book. `jail_worker` is the
inside.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from soundkeep.audio.formats import CODINGS, Format
from soundkeep.audio.jobs import CPU_SECONDS_PER_JOB, Facts, Findings, Job, Rendering
from soundkeep.audio.sniff import sniff_file
from soundkeep.audio.warm import Died, DoesNotStart, Overran, Program, WarmProcesses
from soundkeep.errors import DiskFull, JailFailed, NotAudio, TooMuchSound, WriteFailed
from soundkeep.model import Sound
from soundkeep.writing import NO_ROOM

JOBS_PER_PROCESS = 2_000  # a new one costs as much as four hundred jobs
MAX_BYTES = (1 << 32) - 1  # of a file we make: WAV counts them with 32 bits
SLOWEST = 10  # times as fast as it is heard, a sound is encoded at least; measured 100 and more
PCM_SAMPLE_BYTES = 2


class Jail:
    """A few warm decoding processes. Close it at the end."""

    def __init__(self, *, seconds: float, memory_bytes: int, workers: int = 2) -> None:
        self._seconds = seconds
        program = Program(
            "soundkeep.audio.jail_worker", Findings, (str(memory_bytes),), greeting=Job("hello")
        )
        self._quick, self._long = (
            WarmProcesses(program, workers=workers, seconds=seconds, requests_each=JOBS_PER_PROCESS)
            for _ in range(2)
        )

    async def probe(self, path: Path, format_: Format) -> Sound:
        """What a file is, after at least one decoded frame. Raises `NotAudio`, `JailFailed`."""
        found = await self._examine(Job("probe", str(path), format_.demuxer), format_)
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

    async def judge(self, path: Path) -> Facts:
        """What can be measured of speech. Raises `NotAudio`, `JailFailed`."""
        format_ = await _sniffed(path)
        found = await self._examine(Job("judge", str(path), format_.demuxer), format_)
        assert found.facts is not None
        return found.facts

    async def tune(self) -> bytes:
        """The sample track as MP3. Raises `JailFailed`."""
        return (await self._do(self._quick, Job("tune"))).rendered

    # --- renderings -------------------------------------------------------------------------
    # The target is written anew. After an error it is gone.

    async def decode(
        self,
        source: Path,
        target: Path,
        *,
        sample_rate_hz: int | None = None,
        channels: int | None = 1,
        max_bytes: int,
        seconds: float | None = None,
    ) -> int:
        """A file's samples as s16le, interleaved; how many there are of each channel. `None` is as
        it was. Raises `NotAudio`, `TooMuchSound`, `WriteFailed`, `JailFailed`."""
        rendering = Rendering(
            str(target), max_bytes, "pcm", rate_hz=sample_rate_hz, channels=channels
        )
        return await self._render_file(source, rendering, seconds)

    async def encode(
        self,
        sources: Sequence[Path],
        target: Path,
        *,
        sample_rate_hz: int,
        coding: str,
        out_rate_hz: int | None = None,
        bit_rate: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Joins samples (s16le, mono) and codes them once, as one of `CODINGS`. Without a limit of
        its own it has time in proportion to its length. A rate that the coding does not have
        becomes the next higher. Raises `NotAudio` if there is not one sample, `TooMuchSound`,
        `WriteFailed`, `JailFailed`."""
        size_bytes = sum(path.stat().st_size for path in sources)
        heard_seconds = size_bytes / PCM_SAMPLE_BYTES / sample_rate_hz
        rendering = Rendering(
            str(target),
            MAX_BYTES,
            CODINGS[coding].name,
            sources=tuple(map(str, sources)),
            source_rate_hz=sample_rate_hz,
            rate_hz=out_rate_hz,
            bit_rate=bit_rate,
        )
        await self._render(
            Job("render", rendering=rendering), seconds or self._seconds + heard_seconds / SLOWEST
        )

    async def encode_file(
        self,
        source: Path,
        target: Path,
        *,
        coding: str,
        out_rate_hz: int | None = None,
        bit_rate: int | None = None,
        max_bytes: int = MAX_BYTES,
        seconds: float | None = None,
    ) -> None:
        """Any sound we take in one of `CODINGS`, stereo if it is; otherwise as `encode`."""
        rendering = Rendering(
            str(target), max_bytes, CODINGS[coding].name, rate_hz=out_rate_hz, bit_rate=bit_rate
        )
        await self._render_file(source, rendering, seconds)

    async def close(self) -> None:
        """Ends the idle processes at once, and busy ones when their jobs end."""
        await asyncio.gather(self._quick.close(), self._long.close())

    # ----------------------------------------------------------------------------------------

    async def _examine(self, job: Job, format_: Format) -> Findings:
        found = await self._do(self._quick, job)
        if found.refusal:
            raise NotAudio(f"{format_.name}: {found.refusal}")
        return found

    async def _render_file(self, source: Path, rendering: Rendering, seconds: float | None) -> int:
        format_ = await _sniffed(source)
        job = Job("render", str(source), format_.demuxer, rendering)
        return await self._render(job, seconds or self._seconds)

    async def _render(self, job: Job, seconds: float) -> int:
        assert job.rendering is not None
        target = Path(job.rendering.target)
        try:
            found = await self._do(self._long, job, seconds)
            if found.refusal:
                raise NotAudio(found.refusal)
            if found.unwritten:
                raise _unwritten(found.unwritten)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return found.samples

    async def _do(
        self, processes: WarmProcesses[Findings], job: Job, seconds: float | None = None
    ) -> Findings:
        seconds = seconds or self._seconds
        cpu_seconds = max(CPU_SECONDS_PER_JOB, math.ceil(seconds))
        try:
            return await processes.ask(replace(job, cpu_seconds=cpu_seconds), seconds)
        except Died:
            raise NotAudio("the decoder died of these bytes, twice") from None
        except Overran:
            # An upload that cannot be looked at in time is refused. What was taken, or paid for, is
            # good until shown otherwise: then it was this machine that was slow.
            late = NotAudio if job.verb == "probe" else JailFailed
            raise late(f"decoding took longer than {seconds:g} s") from None
        except DoesNotStart as error:
            why = "the decoder does not start; `soundkeep doctor` says more"
            raise JailFailed(f"{why} ({error})") from error


async def _sniffed(path: Path) -> Format:
    format_ = await asyncio.to_thread(sniff_file, path)
    if format_ is None:
        raise NotAudio("the content is no audio that we know")
    return format_


def _unwritten(number: int) -> Exception:
    if number == errno.EFBIG:
        return TooMuchSound()
    if number in NO_ROOM:
        return DiskFull()
    return WriteFailed(f"a sound could not be written ({os.strerror(number)})")
