"""What a listener hears while copies are damaged, lost or out of reach: every byte, right."""

from __future__ import annotations

import http.client
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers.soundkeep import Server, eventually, running
from soundkeep.digest import CHUNK_BYTES
from sounds import wav

SIZE = 5 * CHUNK_BYTES + 1234
SOUND = wav(SIZE, seed=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "data", READING__STALL_SECONDS="2") as started:
        yield started


@pytest.fixture
def track(server: Server) -> dict[str, str]:
    """A track in both stores, its inbox copy out of the way."""
    track = server.upload("a/sound.wav", SOUND, visibility="public")
    eventually(lambda: server.check()["passed"])
    inbox = next((server.data / "inbox" / "uploads").iterdir(), None)
    for file in (server.data / "inbox" / "uploads").iterdir():
        if file.stat().st_size == SIZE:
            file.unlink()
    assert inbox is not None
    return track


def file_of(server: Server, track: dict[str, str]) -> Path:
    return server.data / "audio" / "blobs" / track["digest"]


def flip(file: Path, at: int) -> None:
    """Turns one bit; size and times are put back, as silent rot would leave them."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def in_database(server: Server, statement: str, *values: object) -> None:
    with sqlite3.connect(server.data / "backup.db", timeout=30) as database:
        database.execute(statement, values)
    database.close()


def spoil_in_database(server: Server, index: int) -> None:
    """Zeroes one chunk of every sound that has so many; the sample tune has but one."""
    in_database(server, "UPDATE chunks SET data = zeroblob(length(data)) WHERE number = ?", index)


DAMAGE: dict[str, Callable[[Server, dict[str, str]], None]] = {
    "a flipped bit": lambda server, track: flip(file_of(server, track), 3 * CHUNK_BYTES + 99),
    "a truncation": lambda server, track: os.truncate(file_of(server, track), 2 * CHUNK_BYTES + 5),
    "a deletion": lambda server, track: file_of(server, track).unlink(),
    "wrong rows": lambda server, track: spoil_in_database(server, 2),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_never_heard_and_is_repaired_by_itself(
    server: Server, track: dict[str, str], damage: str
) -> None:
    assert server.sound(track["id"]) == SOUND
    DAMAGE[damage](server, track)
    for _ in range(3):
        assert server.sound(track["id"]) == SOUND
    if damage != "wrong rows":
        eventually(lambda: file_of(server, track).exists())
        eventually(lambda: file_of(server, track).read_bytes() == SOUND)
    eventually(lambda: server.check()["passed"])


@pytest.mark.parametrize("damage", ["a flipped bit", "a truncation", "a deletion"])
def test_damage_ahead_of_a_running_stream_is_never_heard(
    server: Server, track: dict[str, str], damage: str
) -> None:
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", f"/audio/{track['id']}")
    answer = connection.getresponse()
    heard = answer.read(1000)
    DAMAGE[damage](server, track)
    heard += answer.read()
    connection.close()
    assert heard == SOUND


def test_both_copies_damaged_in_different_chunks_still_give_every_byte(
    server: Server, track: dict[str, str]
) -> None:
    flip(file_of(server, track), 1 * CHUNK_BYTES + 7)
    spoil_in_database(server, 3)
    assert server.sound(track["id"]) == SOUND
    eventually(lambda: file_of(server, track).read_bytes() == SOUND)
    eventually(lambda: server.check()["passed"])


def test_headers_are_the_same_whichever_store_answers(
    server: Server, track: dict[str, str]
) -> None:
    varying = {"date"}

    def headers() -> dict[str, str]:
        answer = server.ask("GET", f"/audio/{track['id']}", Range="bytes=10-99")
        assert answer.body == SOUND[10:100]
        return {name: value for name, value in answer.headers.items() if name not in varying}

    from_disk = headers()
    file_of(server, track).unlink()
    assert headers() == from_disk
