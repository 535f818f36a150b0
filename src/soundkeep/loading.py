"""Modules are loaded without a search for garbage among them.

What a module defines stays until the process ends, yet Python's collector looks through all of it
again whenever enough objects have come: a third of the time that a short command takes, and later
a pause in a server (docs/decisions/0006).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Collects nothing inside; what is there at the end is never looked at again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
