"""What names bytes and what proves them.

A blob is named by the SHA-256 of its bytes and proved piecewise by one BLAKE3 hash for each
chunk of 256 KiB, so that any range from any store can be verified before it is sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3

from soundkeep.errors import BadDigest, Corrupt

CHUNK_BYTES = 256 * 1024
CHUNK_HASH_BYTES = 32

_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The SHA-256 of a blob. Printed and written in JSON as 64 lower-case hex digits."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise BadDigest(f"a SHA-256 digest has 32 bytes, not {len(self.raw)}")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Reads 64 hex digits, in either case. Raises `BadDigest`."""
        if not _HEX.match(text.lower()):
            raise BadDigest("a SHA-256 digest is written as 64 hex digits")
        return cls(bytes.fromhex(text))

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The digest of `data`."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def from_repr_digest(cls, header: str) -> Digest | None:
        """The SHA-256 in a `Repr-Digest` field (RFC 9530); None if it names no SHA-256.

        Raises `BadDigest` if the member is there and malformed.
        """
        for member in header.split(","):
            name, _, value = member.strip().partition("=")
            if name.strip().lower() == "sha-256":
                return cls(_byte_sequence(value.strip()))
        return None

    @property
    def hex(self) -> str:
        """64 lower-case hex digits."""
        return self.raw.hex()

    def __str__(self) -> str:
        return self.hex


def _byte_sequence(value: str) -> bytes:
    """A byte sequence of RFC 8941: base64 between colons."""
    if len(value) < 2 or value[0] != ":" or value[-1] != ":":
        raise BadDigest("Repr-Digest wants sha-256=:<base64>:")
    try:
        return base64.b64decode(value[1:-1], validate=True)
    except binascii.Error as error:
        raise BadDigest("Repr-Digest wants sha-256=:<base64>:") from error


@dataclass(frozen=True, slots=True)
class ChunkHashes:
    """The BLAKE3 hashes of a blob's chunks in order, 32 bytes each, joined."""

    raw: bytes

    def __len__(self) -> int:
        return len(self.raw) // CHUNK_HASH_BYTES

    def matches(self, index: int, chunk: bytes | memoryview) -> bool:
        """Whether `chunk` is, byte for byte, chunk number `index`."""
        start = index * CHUNK_HASH_BYTES
        return blake3(chunk).digest() == self.raw[start : start + CHUNK_HASH_BYTES]

    def check(self, index: int, chunk: bytes | memoryview) -> None:
        """Raises `Corrupt` unless `chunk` is chunk number `index`."""
        if not self.matches(index, chunk):
            raise Corrupt(f"chunk {index} ({len(chunk)} bytes) does not match its hash")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that is needed to name a blob and to prove any part of it."""

    digest: Digest
    chunk_hashes: ChunkHashes
    size_bytes: int


class Hasher:
    """Hashes bytes as they pass: SHA-256 over the whole, BLAKE3 over each chunk."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._chunk = blake3()
        self._in_chunk = 0
        self._hashes: list[bytes] = []
        self.size_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next bytes, of any length."""
        self._whole.update(data)
        self.size_bytes += len(data)
        view = memoryview(data)
        while view:
            piece = view[: CHUNK_BYTES - self._in_chunk]
            self._chunk.update(piece)
            self._in_chunk += len(piece)
            view = view[len(piece) :]
            if self._in_chunk == CHUNK_BYTES:
                self._close_chunk()

    def finish(self) -> Fingerprint:
        """The fingerprint of everything taken. Call it once."""
        if self._in_chunk:
            self._close_chunk()
        return Fingerprint(
            Digest(self._whole.digest()), ChunkHashes(b"".join(self._hashes)), self.size_bytes
        )

    def _close_chunk(self) -> None:
        self._hashes.append(self._chunk.digest())
        self._chunk = blake3()
        self._in_chunk = 0


def fingerprint(data: bytes) -> Fingerprint:
    """The fingerprint of bytes already in memory."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.finish()


def chunk_count(size_bytes: int) -> int:
    """How many chunks a blob of this size has; an empty blob has none."""
    return -(-size_bytes // CHUNK_BYTES)


def chunk_span(index: int, size_bytes: int) -> tuple[int, int]:
    """Where chunk `index` starts and stops (half-open) in a blob of `size_bytes`."""
    return index * CHUNK_BYTES, min((index + 1) * CHUNK_BYTES, size_bytes)


def chunks_touching(start: int, stop: int) -> Iterator[int]:
    """The indexes of the chunks that the half-open range touches."""
    return iter(range(start // CHUNK_BYTES, chunk_count(stop)))
