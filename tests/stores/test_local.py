"""What a directory owes beyond the contract: its place, its durability, its limits."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.errors import (
    BadPath,
    Corrupt,
    Misconfigured,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Truncated,
    Unavailable,
    Unsupported,
)
from soundkeep.stores import local
from soundkeep.stores.interface import MARKER_KEY, RESERVED_PREFIX, Key
from soundkeep.stores.local import FAULTS, LocalStore
from soundkeep.stores.sources import FileSource
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import StoreContract
from soundkeep.testing.expecting import fails_with, listed, read

DRAFTS = f"{RESERVED_PREFIX}tmp"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    store = LocalStore("disk", tmp_path / "audio")
    await store.write_marker("id-1")
    yield store
    await store.close()


def file_source(path: Path, data: bytes) -> FileSource:
    path.write_bytes(data)
    return FileSource(path, Digest.of(data), len(data), "audio/mpeg")


def drafts_of(store: LocalStore) -> list[str]:
    return [path.name for path in (store.path / DRAFTS).iterdir()]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until_no_draft_is_left(store: LocalStore) -> None:
    for _ in range(1000):
        if not drafts_of(store):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"left behind: {drafts_of(store)}")


# --- the place ------------------------------------------------------------------------------


async def test_a_directory_that_is_not_there_is_misconfigured(tmp_path: Path) -> None:
    store = LocalStore("disk", tmp_path / "nowhere")
    for call in (store.probe(), store.read_marker(), store.stat("x"), store.delete("x")):
        await fails_with(Misconfigured, call)
    await fails_with(Misconfigured, read(store, "x"))
    await fails_with(Misconfigured, listed(store))
    await fails_with(Misconfigured, store.put(Key("x"), BytesSource(b"x")))
    assert not store.path.exists()
    await store.close()


async def test_a_file_in_place_of_the_directory_is_misconfigured(tmp_path: Path) -> None:
    store = LocalStore("disk", tmp_path / "file")
    store.path.write_bytes(b"")
    await fails_with(Misconfigured, store.probe())
    await fails_with(Misconfigured, store.stat("x"))
    await fails_with(Misconfigured, store.put(Key("x"), BytesSource(b"x")))
    await store.close()


async def test_an_unmounted_directory_is_not_an_empty_one(store: LocalStore) -> None:
    """Its mount point is there, writable and empty."""
    await store.put(Key("x"), BytesSource(b"x"))
    store.path.rename(store.path.with_name("elsewhere"))
    store.path.mkdir()
    assert await store.read_marker() is None
    for call in (store.stat("x"), store.delete("x"), listed(store), read(store, "x")):
        await fails_with(Misconfigured, call)
    await fails_with(Misconfigured, store.put(Key("y"), BytesSource(b"y")))
    assert not list(store.path.iterdir())


async def test_a_marker_that_cannot_be_read_is_corrupt(store: LocalStore) -> None:
    for text in ("", "{", "[]", "{}"):
        store.path_of(MARKER_KEY).write_text(text)
        await fails_with(Corrupt, store.read_marker())


async def test_the_marker_is_a_json_object_with_the_id(store: LocalStore) -> None:
    assert json.loads(store.path_of(MARKER_KEY).read_text()) == {"id": "id-1"}


# --- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("locator", ["../x", "/etc/passwd", "a/../../x", "a//b", "a\0b", ""])
async def test_no_locator_leads_out_of_the_directory(store: LocalStore, locator: str) -> None:
    for call in (store.stat(locator), read(store, locator), store.delete(locator)):
        await fails_with(BadPath, call)


async def test_a_symbolic_link_is_neither_read_nor_written_through(
    store: LocalStore, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    store.path_of("link").symlink_to(secret)
    assert await store.stat("link") is None
    await fails_with(NotFound, read(store, "link"))
    assert await listed(store) == []
    await store.put(Key("link"), BytesSource(b"mine"))
    assert await read(store, "link") == b"mine"
    assert secret.read_bytes() == b"secret"


async def test_a_pipe_does_not_hang_its_reader(store: LocalStore) -> None:
    os.mkfifo(store.path_of("pipe"))
    await fails_with(NotFound, read(store, "pipe"))


async def test_a_key_below_another_object_is_unsupported(store: LocalStore) -> None:
    await store.put(Key("a"), BytesSource(b"a"))
    await store.put(Key("b/c"), BytesSource(b"c"))
    await fails_with(Unsupported, store.put(Key("a/b"), BytesSource(b"x")))
    await fails_with(Unsupported, store.put(Key("b"), BytesSource(b"x")))
    assert await store.stat("a/b") is None
    assert await store.stat("b") is None
    assert await listed(store) == ["a", "b/c"]
    await until_no_draft_is_left(store)


async def test_foreign_files_whose_names_are_no_keys_are_not_listed(store: LocalStore) -> None:
    (store.path / "back\\slash").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(store.path) + b"/\xff\xfe")).write_bytes(b"")
    (store.path / "fine").write_bytes(b"")
    assert await listed(store) == ["fine"]


async def test_a_long_list_is_read_in_parts(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "LISTED_AT_ONCE", 2)
    for number in range(5):
        await store.put(Key(f"{number}/x"), BytesSource(b"x"))
    assert await listed(store) == [f"{number}/x" for number in range(5)]


async def test_directories_that_become_empty_go_away(store: LocalStore) -> None:
    for name in ("a/b/c", "a/b/d"):
        await store.put(Key(name), BytesSource(b"x"))
    await store.delete("a/b/c")
    assert (store.path / "a/b").is_dir()
    await store.delete("a/b/d")
    assert not (store.path / "a").exists()


async def test_puts_and_deletes_in_one_directory_do_not_trip_over_each_other(
    store: LocalStore,
) -> None:
    async def come_and_go(name: str) -> None:
        for _ in range(25):
            await store.put(Key(f"deep/er/{name}"), BytesSource(b"x"))
            await store.delete(f"deep/er/{name}")

    await asyncio.gather(*(come_and_go(name) for name in "abcd"))
    assert await listed(store) == []


# --- whole or nothing -----------------------------------------------------------------------


async def test_a_file_on_the_same_file_system_is_taken_over_by_a_link(
    store: LocalStore, tmp_path: Path
) -> None:
    source = file_source(tmp_path / "inbox", os.urandom(CHUNK_BYTES + 1))
    await store.put(Key("a/b"), source)
    assert store.path_of("a/b").samefile(source.path)


async def test_two_stores_never_keep_one_and_the_same_file(
    store: LocalStore, tmp_path: Path
) -> None:
    """Two copies in one inode would rot as one."""
    other = LocalStore("other", tmp_path / "other")
    await other.write_marker("id-2")
    source = file_source(tmp_path / "landed", b"sound")
    await asyncio.gather(store.put(Key("x"), source), other.put(Key("x"), source))
    assert not store.path_of("x").samefile(other.path_of("x"))
    assert await read(store, "x") == await read(other, "x") == b"sound"
    await other.close()


async def test_a_repair_writes_new_bytes_and_never_links(store: LocalStore, tmp_path: Path) -> None:
    source = file_source(tmp_path / "inbox", os.urandom(CHUNK_BYTES + 1))
    await store.put(Key("a"), source)
    await store.put(Key("a"), source)
    assert not store.path_of("a").samefile(source.path)
    assert await read(store, "a") == source.path.read_bytes()


async def test_a_file_of_another_length_is_not_linked(store: LocalStore, tmp_path: Path) -> None:
    source = file_source(tmp_path / "inbox", b"x" * 100)
    source.path.write_bytes(b"x" * 99)
    await fails_with(Truncated, store.put(Key("a"), source))
    source.path.write_bytes(b"x" * 101)
    await fails_with(Corrupt, store.put(Key("a"), source))
    source.path.unlink()
    await fails_with(NotFound, store.put(Key("a"), source))
    assert await store.stat("a") is None


async def test_a_cancelled_put_leaves_no_draft_behind(store: LocalStore) -> None:
    await StoreContract().cancel_half_way(store, "x")
    await until_no_draft_is_left(store)


async def test_reaping_removes_old_drafts_only(store: LocalStore) -> None:
    for name, mtime in (("old", 1000), ("new", None)):
        draft = store.path / DRAFTS / name
        draft.write_bytes(b"x")
        if mtime:
            os.utime(draft, (mtime, mtime))
    assert await store.reap(timedelta(hours=1)) == 1
    assert drafts_of(store) == ["new"]


async def test_a_file_that_shrinks_under_its_reader_is_truncated(store: LocalStore) -> None:
    await store.put(Key("x"), BytesSource(os.urandom(3 * CHUNK_BYTES)))
    async with aclosing(store.open("x")) as pieces:
        await anext(pieces)
        os.truncate(store.path_of("x"), CHUNK_BYTES + 1)
        assert len(await anext(pieces)) == 1
        await fails_with(Truncated, anext(pieces))


async def test_an_open_body_holds_its_file_and_no_longer(store: LocalStore) -> None:
    await store.put(Key("x"), BytesSource(os.urandom(3 * CHUNK_BYTES)))
    before = open_files()
    for _ in range(20):
        async with aclosing(store.open("x")) as pieces:
            await anext(pieces)
    for _ in range(1000):  # the thread that read last may not have let go of it yet
        if open_files() <= before:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{open_files()} files are open, and {before} were before")


# --- what the system says -------------------------------------------------------------------


def test_the_systems_errors_have_their_meaning() -> None:
    meant: dict[int, type[StoreError]] = {
        errno.ENOSPC: QuotaExceeded,
        errno.EDQUOT: QuotaExceeded,
        errno.EACCES: PermissionDenied,
        errno.EPERM: PermissionDenied,
        errno.EROFS: PermissionDenied,
        errno.ENOENT: Misconfigured,
        errno.ENAMETOOLONG: Unsupported,
        errno.EIO: Unavailable,
        errno.ESTALE: Unavailable,
    }
    assert {number: FAULTS.get(number, Unavailable) for number in meant} == meant


PUT = """
import asyncio, sys
from pathlib import Path
from soundkeep.stores.interface import Key
from soundkeep.stores.local import LocalStore
from soundkeep.testing import BytesSource

async def main():
    store = LocalStore("disk", Path(sys.argv[1]))
    try:
        await store.put(Key("new/dir/x"), BytesSource(b"x" * 300_000))
        print("kept")
    except Exception as error:
        print(type(error).__name__)
    await store.close()

asyncio.run(main())
"""


def put_under_strace(path: Path, *options: str) -> tuple[str, str]:
    """Puts in a process of its own; answers what it printed and the trace."""
    trace = path.with_suffix(".trace")
    command = ["strace", "-f", "-y", "-o", str(trace), *options, sys.executable, "-c", PUT, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip(), trace.read_text()


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@needs_strace
async def test_a_put_syncs_the_bytes_before_the_name_and_every_directory_after(
    store: LocalStore,
) -> None:
    said, trace = put_under_strace(
        store.path, "-e", "trace=write,fsync,rename,renameat,renameat2,mkdir"
    )
    assert said == "kept"
    root = re.escape(str(store.path))
    steps = [
        rf"write\(\d+<{root}/{DRAFTS}/",
        rf"fsync\(\d+<{root}/{DRAFTS}/\w+>",
        rf"rename\w*\(.*{root}/new/dir/x",
        rf"fsync\(\d+<{root}/new/dir>",
        rf"fsync\(\d+<{root}/new>",
        rf"fsync\(\d+<{root}>",
    ]
    assert re.search(".*".join(steps), trace, re.DOTALL)


@needs_strace
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("fsync:error=EIO:when=1", "Unavailable"),
        ("fsync:error=ENOSPC:when=1", "QuotaExceeded"),
        ("mkdir:error=EROFS", "PermissionDenied"),
    ],
)
async def test_a_put_whose_system_call_fails_leaves_nothing(
    store: LocalStore, fault: str, said: str
) -> None:
    name = fault.partition(":")[0]
    answer, trace = put_under_strace(store.path, "-e", f"trace={name}", "-e", f"inject={fault}")
    assert answer == said
    assert await store.stat("new/dir/x") is None
    assert not drafts_of(store)
    assert trace.count("fsync(") <= 1  # a failed fsync is not tried again


async def test_a_put_that_was_given_up_while_the_disk_hung_never_appears(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, heals, sync = threading.Event(), threading.Event(), os.fsync

    def hang(file: int) -> None:
        hangs.set()
        heals.wait(30)
        sync(file)

    monkeypatch.setattr(os, "fsync", hang)
    putting = asyncio.create_task(store.put(Key("late"), BytesSource(b"bytes")))
    await asyncio.to_thread(hangs.wait, 30)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    heals.set()
    await until_no_draft_is_left(store)
    assert await store.stat("late") is None
