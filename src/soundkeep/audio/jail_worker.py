"""The inside of the jail: caps itself, then answers jobs from standard input until that ends.

The caps hold for everything a decoder may be talked into: memory, CPU time of a job, no file
written, no core dump, death with its parent. And one file open at a time: while a job's own is,
neither another file nor a socket can be opened, so a playlist in disguise leads nowhere.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from soundkeep.audio.jobs import LENGTH, Findings, Job, framed

CPU_SECONDS_PER_JOB = 30
STANDARD_STREAMS = 3
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs until standard input ends."""
    memory_bytes, parent = map(int, sys.argv[1:])
    _die_with(parent)
    _cap(resource.RLIMIT_AS, memory_bytes)
    _cap(resource.RLIMIT_FSIZE, 0)
    _cap(resource.RLIMIT_CORE, 0)
    from soundkeep.audio import probe, tune  # noqa: PLC0415 - no codec is loaded unconfined

    probe.rehearse()
    _cap(resource.RLIMIT_NOFILE, STANDARD_STREAMS + 1)
    jobs = {
        "hello": lambda job: Findings(),
        "probe": lambda job: probe.probe(job.path, job.demuxer),
        "tune": lambda job: Findings(rendered=tune.render()),
    }
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (job := _read(requests)) is not None:
        _allow_cpu(CPU_SECONDS_PER_JOB)
        try:
            found = jobs[job.verb](job)
        except MemoryError:
            found = Findings(refusal="decoding needs too much memory")
        answers.write(framed(found))
        answers.flush()


def _die_with(parent: int) -> None:
    """The kernel's promise begins with the call; what happened before it is seen by the parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")


def _cap(what: int, limit: int) -> None:
    resource.setrlimit(what, (limit, limit))


def _allow_cpu(seconds: int) -> None:
    """The limit counts from the process's birth, so it moves with each job."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    spent = int(used.ru_utime + used.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, hard))


def _read(requests: BinaryIO) -> Job | None:
    header = requests.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    return msgspec.msgpack.decode(requests.read(length), type=Job)


if __name__ == "__main__":
    main()
