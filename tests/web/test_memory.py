"""What a server does with memory is counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from soundkeep.digest import CHUNK_BYTES

CYCLES = 200
PAGES = 4 * CHUNK_BYTES // 4096  # of one cycle

PROGRAM = f"""
import resource
from soundkeep.web.memory import keep_memory

keep_memory()

def cycle():
    return [bytes([1]) * {CHUNK_BYTES} for _ in range(4)]

for _ in range(5):
    cycle()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({CYCLES}):
    cycle()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_chunks_that_come_and_go_use_the_same_memory_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) < 2 * PAGES
