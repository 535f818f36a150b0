"""What runs in threads does nothing behind the back of a caller that was cancelled."""

from __future__ import annotations

import asyncio
import threading

from soundkeep.errors import Unavailable
from soundkeep.stores.threads import Draft, Threads
from soundkeep.testing.expecting import fails_with


class Noted(Draft):
    """Notes what happened to it, and lets a step wait."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.notes: list[str] = []

    def write(self) -> None:
        with self.step():
            self.began.set()
            assert self.may_end.wait(10)
            self.notes.append("written")

    def publish(self) -> None:
        with self.step():
            self.notes.append("published")

    def remove(self) -> None:
        self.notes.append("removed")


async def test_a_draft_is_removed_after_its_running_step_and_never_published() -> None:
    threads, draft = Threads("test", 4), Noted()
    writing = asyncio.ensure_future(threads.run(draft.write))
    await asyncio.to_thread(draft.began.wait, 10)
    writing.cancel()
    draft.abandon(threads)
    publishing = asyncio.ensure_future(threads.run(draft.publish))
    draft.may_end.set()
    await fails_with(Unavailable, publishing)
    await threads.close()
    assert draft.notes == ["written", "removed"]


async def test_what_comes_too_late_to_be_tidied_is_left_for_reaping() -> None:
    threads, draft = Threads("test", 1), Noted()
    await threads.close()
    draft.abandon(threads)
    assert draft.notes == []


async def test_threads_may_be_closed_twice() -> None:
    threads = Threads("test", 1)
    assert await threads.run(max, 1, 2) == 2
    await threads.close()
    await threads.close()
