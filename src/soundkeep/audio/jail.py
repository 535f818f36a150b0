"""The door to the jail: foreign bytes are decoded in warm processes with caps, never in ours.

A job has a time limit. Only bytes that kill two processes are condemned: `warm` asks a second one.
`jail_worker` is the inside.
"""

from __future__ import annotations

from pathlib import Path

from soundkeep.audio.formats import Format
from soundkeep.audio.jobs import Findings, Job
from soundkeep.audio.warm import Died, DoesNotStart, Overran, Program, WarmProcesses
from soundkeep.errors import JailFailed, NotAudio
from soundkeep.model import Sound

JOBS_PER_PROCESS = 2_000  # a new one costs as much as four hundred jobs


class Jail:
    """A few warm decoding processes. Close it at the end."""

    def __init__(self, *, seconds: float, memory_bytes: int, workers: int = 2) -> None:
        self._seconds = seconds
        program = Program(
            "soundkeep.audio.jail_worker", Findings, (str(memory_bytes),), greeting=Job("hello")
        )
        self._processes = WarmProcesses(
            program, workers=workers, seconds=seconds, requests_each=JOBS_PER_PROCESS
        )

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
        await self._processes.close()

    async def _do(self, job: Job) -> Findings:
        try:
            return await self._processes.ask(job)
        except Died:
            raise NotAudio("the decoder died of these bytes, twice") from None
        except Overran:
            raise NotAudio(f"decoding took longer than {self._seconds:g} s") from None
        except DoesNotStart as error:
            why = "the decoder does not start; `soundkeep doctor` says more"
            raise JailFailed(f"{why} ({error})") from error
