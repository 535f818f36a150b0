"""As much of HTTP/1.1 as is needed to find where bodies begin and end."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader
from collections.abc import AsyncIterator, Iterable

PIECE_BYTES = 16 * 1024
CHUNKED = -1
TO_THE_END = -2


class Gone(Exception):
    """One of the two ends is gone."""


async def head_of(reader: StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        raise Gone from None


def field(head: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r]*)", head, re.IGNORECASE)
    return found[1].strip() if found else None


def length_of_request(head: bytes) -> int:
    if b"chunked" in (field(head, b"transfer-encoding") or b""):
        return CHUNKED
    return int(field(head, b"content-length") or 0)


def length_of_answer(head: bytes, request_line: str) -> int:
    status = int(head.split(b" ", 2)[1])
    if request_line.startswith("HEAD ") or status in (204, 304):
        return 0
    if b"chunked" in (field(head, b"transfer-encoding") or b""):
        return CHUNKED
    length = field(head, b"content-length")
    return TO_THE_END if length is None else int(length)


async def body_of(reader: StreamReader, length: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Pieces, and whether they count as bytes of the body (the sizes of chunks do not)."""
    if length == CHUNKED:
        size = -1
        while size != 0:
            line = await _line(reader)
            size = int(line.split(b";")[0], 16)
            yield line, False
            async for piece in _exactly(reader, size):
                yield piece, True
            yield await _line(reader), False  # trailers are not for us
    elif length == TO_THE_END:
        while piece := await reader.read(PIECE_BYTES):
            yield piece, True
        raise Gone
    else:
        async for piece in _exactly(reader, length):
            yield piece, True


async def _line(reader: StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise Gone
    return line


async def _exactly(reader: StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(min(size, PIECE_BYTES))
        if not piece:
            raise Gone
        size -= len(piece)
        yield piece


def head_with_length(head: bytes, size: int) -> bytes:
    """The same head of an answer, for a body of that length."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    framing = (b"content-length:", b"transfer-encoding:")
    kept = [line for line in lines if not line.lower().startswith(framing)]
    return b"\r\n".join([*kept, b"content-length: %d" % size, b"", b""])


def answer_of(
    status: int, headers: Iterable[tuple[str, str]], body: bytes, request_line: str
) -> bytes:
    """A whole answer to this request."""
    lines = [f"HTTP/1.1 {status} As Ordered", f"content-length: {len(body)}"]
    lines += [f"{name}: {text}" for name, text in headers]
    head = "\r\n".join([*lines, "", ""]).encode()
    return head if request_line.startswith("HEAD ") else head + body
