"""The inside of a process that works for another: its caps, and the messages over its pipes.

Messages are length-prefixed MessagePack over the standard streams. Nothing here loads anything of
the outside (asyncio alone: 8 MB).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO, TypeVar

import msgspec

LENGTH = struct.Struct(">I")
PR_SET_PDEATHSIG = 1

Message = TypeVar("Message", bound=msgspec.Struct)


def framed(message: msgspec.Struct) -> bytes:
    """One message as it goes over the pipe."""
    encoded = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(encoded)) + encoded


def received(requests: BinaryIO, kind: type[Message]) -> Message | None:
    """The next request; None when there will be no more."""
    header = requests.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    return msgspec.msgpack.decode(requests.read(length), type=kind)


def die_with(parent: int) -> None:
    """The kernel's promise begins with the call; what happened before it is seen by the parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")


def cap(what: int, limit: int) -> None:
    """Bounds a resource (`RLIMIT_…`) for good."""
    resource.setrlimit(what, (limit, limit))


def allow(what: int, limit: int) -> None:
    """Bounds a resource until the next request, within what it is capped to."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit, hard))


def allow_cpu(seconds: int) -> None:
    """The limit counts from the process's birth, so it moves with each request."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allow(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)
