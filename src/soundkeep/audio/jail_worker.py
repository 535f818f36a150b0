"""The inside of the jail: caps itself, then answers jobs from standard input until that ends.

The caps hold for everything a decoder may be talked into: memory, CPU time of a job, no file
written, few files open, no core dump, death with its parent.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from soundkeep.audio.jail import LENGTH, Findings, Job

CPU_SECONDS_PER_JOB = 30
MAX_OPEN_FILES = 32
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs until standard input ends."""
    _confine(memory_bytes=int(sys.argv[1]), parent=int(sys.argv[2]))
    from soundkeep.audio import probe, tune  # noqa: PLC0415 - confined before any codec is loaded

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
        message = msgspec.msgpack.encode(found)
        answers.write(LENGTH.pack(len(message)) + message)
        answers.flush()


def _confine(memory_bytes: int, parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")
    for what, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
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
