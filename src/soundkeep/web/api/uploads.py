"""Reads an upload from a request, raw or multipart, without ever holding it in memory.

Fields are parsed before a byte of sound is read, so a bad path costs nobody an upload. Fields of
a multipart body must stand before its file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from soundkeep.digest import Digest
from soundkeep.errors import BadInput, IncompleteUpload
from soundkeep.intake.parsing import new_track
from soundkeep.intake.recording import NewTrack
from soundkeep.intake.spool import Announced

MAX_FIELD_BYTES = 64 * 1024
FILE = "file"


@dataclass(frozen=True, slots=True)
class Upload:
    """What is to be kept: the bytes as they come, and what was said of them."""

    body: AsyncIterator[bytes]
    new: NewTrack
    announced: Announced


async def read_upload(
    request: Request, fields: dict[str, str], repr_digest: str | None, idle_seconds: float
) -> Upload:
    """Raises what `BadInput` names. The body is read by whoever iterates it."""
    digest = Digest.from_repr_digest(repr_digest) if repr_digest else None
    pieces = _pieces(request, idle_seconds)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data":
        announced = Announced(_content_length(request), digest)
        return Upload(pieces, new_track(fields), announced)
    form = _Form(pieces, options.get("boundary", ""))
    fields = {**fields, **await form.read_fields()}
    return Upload(form.file(), new_track(fields), Announced(None, digest))


async def _pieces(request: Request, idle_seconds: float) -> AsyncIterator[bytes]:
    """The body's pieces. A client that hangs up or falls silent leaves an incomplete upload."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                piece = await anext(stream, None)
        except TimeoutError:
            raise IncompleteUpload(f"nothing was sent for {idle_seconds:g} s") from None
        except ClientDisconnect:
            raise IncompleteUpload("the client hung up before the end") from None
        if piece is None:
            return
        if piece:
            yield piece


class _Form:
    """A multipart body, read part by part."""

    def __init__(self, pieces: AsyncIterator[bytes], boundary: str) -> None:
        if not boundary:
            raise BadInput("multipart/form-data needs a boundary")
        self._pieces = pieces
        self._parser = PushMultipartParser(
            boundary, max_header_count=16, max_segment_count=32, strict=True
        )
        self._parts = self._parse()
        self._at_file = False

    async def read_fields(self) -> dict[str, str]:
        """The fields before the file."""
        fields: dict[str, bytearray] = {}
        name = ""
        async for part in self._parts:
            if isinstance(part, MultipartSegment):
                if part.name == FILE:
                    self._at_file = True
                    break
                name = part.name
                fields[name] = bytearray()
            elif part:
                fields[name] += part
                if len(fields[name]) > MAX_FIELD_BYTES:
                    raise BadInput(f"the field {name!r} is over {MAX_FIELD_BYTES} bytes")
        return {name: _text(name, value) for name, value in fields.items()}

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes. Raises `BadInput` if there is no file, or a part follows it."""
        if not self._at_file:
            raise BadInput(f"the form has no part {FILE!r}")
        async for part in self._parts:
            if isinstance(part, MultipartSegment):
                raise BadInput(f"the part {FILE!r} must be the last of the form")
            if part:
                yield bytes(part)

    async def _parse(self) -> AsyncIterator[Any]:
        """Headers of parts, pieces of their bodies, None at the end of each."""
        try:
            async for piece in self._pieces:
                for part in self._parser.parse(piece):
                    yield part
            self._parser.close()
        except MultipartError as error:
            raise IncompleteUpload(f"the form cannot be read: {error}") from None


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _text(name: str, value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadInput(f"the field {name!r} is not UTF-8") from None
