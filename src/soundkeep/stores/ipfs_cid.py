"""The name that IPFS gives to a file, computed while its bytes go by.

A CID names a block by its hash. A file larger than a block is a tree of blocks, and how it is cut
is a matter of choice, so the same bytes have many CIDs. Ours is that of the profile
`unixfs-v1-2025`: CIDv1, SHA-256, raw leaves of 1 MiB, balanced nodes of 1,024 links, as UnixFS in
dag-pb (https://specs.ipfs.tech/unixfs/). Any other is read, compared and passed on as it is.

Nothing here asks anybody, or holds more than the links of one node for each level of the tree.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

LEAF_BYTES = 1024 * 1024
MOST_LINKS = 1024

RAW = 0x55  # codecs and hashes as https://github.com/multiformats/multicodec numbers them
DAG_PB = 0x70
SHA2_256 = 0x12

_FILE = 2  # UnixFS: what kind of node it is; a raw one is 0
_FILE_KINDS = (0, _FILE)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf: how a field's value is written

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_MOST_LETTERS = 200  # the longest hash in use makes 110


@dataclass(frozen=True, slots=True)
class Cid:
    """The name of a block, as it is written in `text`. Names of one block are equal, however they
    are written: `Qm…` and its `bafybei…` are the same."""

    codec: int
    multihash: bytes
    text: str = field(compare=False)

    @classmethod
    def of_block(cls, codec: int, digest: bytes) -> Cid:
        """As CIDv1 of a SHA-256."""
        multihash = bytes((SHA2_256, len(digest))) + digest
        raw = b"\x01" + _varint(codec) + multihash
        return cls(codec, multihash, "b" + base64.b32encode(raw).decode().lower().rstrip("="))

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Reads version 0, or version 1 in base 32, 58 or 16. Raises `ValueError`."""
        raw = _decoded(text)
        if len(raw) == 34 and raw[:2] == bytes((SHA2_256, 32)):
            return cls(DAG_PB, raw, text)
        version, at = _read_varint(raw, 0)
        codec, at = _read_varint(raw, at)
        _, length_at = _read_varint(raw, at)
        length, digest_at = _read_varint(raw, length_at)
        if version != 1 or not length or len(raw) != digest_at + length:
            raise ValueError("this is no CID")
        return cls(codec, raw[at:], text)

    @property
    def sha256(self) -> bytes | None:
        """The SHA-256 of the file itself, if the whole of it is this one block."""
        is_known = self.codec == RAW and self.multihash[:2] == bytes((SHA2_256, 32))
        return self.multihash[2:] if is_known else None

    def names(self, block: bytes) -> bool:
        """Whether it is the name of these bytes; False also where the hash is not SHA-256."""
        digest = hashlib.sha256(block).digest()
        return self.multihash == bytes((SHA2_256, 32)) + digest

    def __str__(self) -> str:
        return self.text


def cid_of(pieces: Iterable[bytes]) -> Cid:
    """The name of the file made of these pieces, which may be of any size."""
    naming = Naming()
    for piece in pieces:
        naming.update(piece)
    return naming.cid()


def first_cid(locators: Iterable[str | None]) -> str | None:
    """The first of these that is a CID. No key of ours reads as one: it has a `/` or a full stop,
    or it is a digest, which begins with no version of a CID."""
    for locator in locators:
        with suppress(ValueError):
            return Cid.parse(locator or "").text
    return None


class Naming:
    """Names a file whose bytes come piece by piece."""

    def __init__(self) -> None:
        self._leaf = hashlib.sha256()
        self._leaf_bytes = 0
        self._tree = _Tree()

    def update(self, piece: bytes | memoryview) -> None:
        rest = memoryview(piece)
        while rest:
            if self._leaf_bytes == LEAF_BYTES:
                self._end_leaf()
            part = rest[: LEAF_BYTES - self._leaf_bytes]
            self._leaf.update(part)
            self._leaf_bytes += len(part)
            rest = rest[len(part) :]

    def cid(self) -> Cid:
        """The name of all that came. It is asked for once, at the end."""
        self._end_leaf()  # of no bytes, if none came: nothing has a name, too
        return self._tree.root().cid

    def _end_leaf(self) -> None:
        cid = Cid.of_block(RAW, self._leaf.digest())
        self._tree.add(_Node(cid, self._leaf_bytes, self._leaf_bytes))
        self._leaf = hashlib.sha256()
        self._leaf_bytes = 0


@dataclass(frozen=True, slots=True)
class _Node:
    """A block as its parent sees it."""

    cid: Cid
    file_bytes: int  # of the file below it
    dag_bytes: int  # of all blocks below it and its own


class _Tree:
    """Nodes by their height, each level short of what would make a full node above it."""

    def __init__(self) -> None:
        self._levels: list[list[_Node]] = [[]]

    def add(self, node: _Node, height: int = 0) -> None:
        if height == len(self._levels):
            self._levels.append([])
        level = self._levels[height]
        level.append(node)
        if len(level) == MOST_LINKS:
            self._levels[height] = []
            self.add(_parent(level), height + 1)

    def root(self) -> _Node:
        """The one node above all; every leaf lies equally deep below it."""
        height = 0
        while height < len(self._levels) - 1 or len(self._levels[height]) > 1:
            level, self._levels[height] = self._levels[height], []
            if level:
                self.add(_parent(level), height + 1)
            height += 1
        return self._levels[height][0]


def _parent(children: list[_Node]) -> _Node:
    file_bytes = sum(child.file_bytes for child in children)
    links = b"".join(_block(2, _link(child)) for child in children)
    sizes = b"".join(_number(4, child.file_bytes) for child in children)
    block = links + _block(1, _number(1, _FILE) + _number(3, file_bytes) + sizes)
    dag_bytes = len(block) + sum(child.dag_bytes for child in children)
    cid = Cid.of_block(DAG_PB, hashlib.sha256(block).digest())
    return _Node(cid, file_bytes, dag_bytes)


def _link(child: _Node) -> bytes:
    """Its name is empty, and written: to leave it out would be another block."""
    raw = b"\x01" + _varint(child.cid.codec) + child.cid.multihash
    return _block(1, raw) + _block(2, b"") + _number(3, child.dag_bytes)


# --- reading a node -------------------------------------------------------------------------


def file_bytes(block: bytes) -> int:
    """The size of the file that a dag-pb block is the root of. Raises `ValueError` for anything
    else, such as a directory."""
    unixfs = next((value for number, value in _fields(block) if number == 1), None)
    if not isinstance(unixfs, bytes):
        raise ValueError("the block holds no UnixFS")
    fields = dict(_fields(unixfs))
    held, size = fields.get(2, b""), fields.get(3)
    if size is None and isinstance(held, bytes):
        size = len(held)
    if fields.get(1) not in _FILE_KINDS or not isinstance(size, int):
        raise ValueError("the block is the root of no file")
    return size


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, with their numbers."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, form = tag >> 3, tag & 7
        if form == _VARINT:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(form)
        if form == _BYTES:
            size, at = _read_varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("the block is damaged")
        yield number, message[at : at + size]
        at += size


# --- numbers and letters --------------------------------------------------------------------


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _block(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits in a byte, the lowest first; the eighth says that there are more."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at this place, and the place behind it."""
    value = 0
    for shift in range(0, 63, 7):
        if at == len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is cut off, or too long")


def _decoded(text: str) -> bytes:
    """The bytes of a CID. Raises `ValueError`."""
    if len(text) > _MOST_LETTERS or not text.isascii():
        raise ValueError("this is no CID")
    if len(text) == 46 and text.startswith("Qm"):
        return _from_base58(text)
    base, rest = text[:1], text[1:]
    try:
        match base:
            case "b" if rest == rest.lower():
                return base64.b32decode(rest.upper() + "=" * (-len(rest) % 8))
            case "z":
                return _from_base58(rest)
            case "f" if rest == rest.lower():
                return bytes.fromhex(rest)
    except binascii.Error:
        raise ValueError("this is no CID") from None
    raise ValueError("this is no CID")


def _from_base58(text: str) -> bytes:
    value = 0
    for letter in text:
        value = value * 58 + _BASE58.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8)
