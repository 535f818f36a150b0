"""The inside of the jail: caps itself, then answers jobs from standard input until that ends.

The caps hold for everything a decoder may be talked into: memory, CPU time of a job, no core dump,
death with its parent. No byte of a file is written but of a rendering's target, and no more than it
may have. And no more files are open than a job needs: while its own are, neither another file nor a
socket can be opened, so a playlist in disguise leads nowhere.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable

from soundkeep.audio.confined import allow, allow_cpu, cap, die_with, framed, received
from soundkeep.audio.jobs import Findings, Job

STANDARD_STREAMS = 3


def main() -> None:
    """Runs until standard input ends."""
    memory_bytes, parent = map(int, sys.argv[1:])
    die_with(parent)
    cap(resource.RLIMIT_AS, memory_bytes)
    cap(resource.RLIMIT_CORE, 0)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's threads want 30 MB of room each
    from soundkeep.audio import encode, probe, tune  # noqa: PLC0415 - no codec is loaded unconfined

    probe.rehearse()
    cap(resource.RLIMIT_NOFILE, STANDARD_STREAMS + 2)
    jobs: dict[str, Callable[[Job], Findings]] = {
        "hello": lambda job: Findings(),
        "judge": _judge,
        "probe": lambda job: probe.probe(job.path, job.demuxer),
        "render": encode.render,
        "tune": lambda job: Findings(rendered=tune.render()),
    }
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (job := received(requests, Job)) is not None:
        _allow(job)
        try:
            found = jobs[job.verb](job)
        except MemoryError:
            found = Findings(refusal="decoding needs too much memory")
        answers.write(framed(found))
        answers.flush()


def _judge(job: Job) -> Findings:
    """Loads numpy when it is first needed: 0.25 s and 30 MB, which no upload waits for."""
    from soundkeep.audio import judge  # noqa: PLC0415

    return judge.judge(job)


def _allow(job: Job) -> None:
    """What this job may use, and no other."""
    target = job.rendering
    allow_cpu(job.cpu_seconds)
    allow(resource.RLIMIT_FSIZE, target.max_bytes if target else 0)
    allow(resource.RLIMIT_NOFILE, STANDARD_STREAMS + (2 if target else 1))


if __name__ == "__main__":
    main()
