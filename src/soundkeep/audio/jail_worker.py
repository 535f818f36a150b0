"""The inside of the jail: caps itself, then answers jobs from standard input until that ends.

The caps hold for everything a decoder may be talked into: memory, CPU time of a job, no file
written, no core dump, death with its parent. And one file open at a time: while a job's own is,
neither another file nor a socket can be opened, so a playlist in disguise leads nowhere.
"""

from __future__ import annotations

import resource
import sys

from soundkeep.audio.confined import allow_cpu, cap, die_with, framed, received
from soundkeep.audio.jobs import Findings, Job

CPU_SECONDS_PER_JOB = 30
STANDARD_STREAMS = 3


def main() -> None:
    """Runs until standard input ends."""
    memory_bytes, parent = map(int, sys.argv[1:])
    die_with(parent)
    cap(resource.RLIMIT_AS, memory_bytes)
    cap(resource.RLIMIT_FSIZE, 0)
    cap(resource.RLIMIT_CORE, 0)
    from soundkeep.audio import probe, tune  # noqa: PLC0415 - no codec is loaded unconfined

    probe.rehearse()
    cap(resource.RLIMIT_NOFILE, STANDARD_STREAMS + 1)
    jobs = {
        "hello": lambda job: Findings(),
        "probe": lambda job: probe.probe(job.path, job.demuxer),
        "tune": lambda job: Findings(rendered=tune.render()),
    }
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (job := received(requests, Job)) is not None:
        allow_cpu(CPU_SECONDS_PER_JOB)
        try:
            found = jobs[job.verb](job)
        except MemoryError:
            found = Findings(refusal="decoding needs too much memory")
        answers.write(framed(found))
        answers.flush()


if __name__ == "__main__":
    main()
