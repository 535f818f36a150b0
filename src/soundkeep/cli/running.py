"""What every verb needs: running a coroutine, saying things, and exit codes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
import uvloop
from rich.console import Console

R = TypeVar("R")

WENT_WRONG = 1
WRONG_USAGE = 2
REACHED_NOTHING = 3

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def run(work: Coroutine[Any, Any, R]) -> R:
    """Runs a verb to its end."""
    return uvloop.run(work)


def complain(text: str) -> None:
    """One line on standard error."""
    err.print("soundkeep:", " ".join(text.split()), markup=False)


def print_json(value: object) -> None:
    """JSON for a script: nothing but the value."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def log_to_stderr(*, verbose: bool, serving: bool = False) -> None:
    """Warnings only, unless more is wanted; a server says what happens."""
    level = logging.DEBUG if verbose else logging.INFO if serving else logging.WARNING
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def size_text(size_bytes: int) -> str:
    """A size for people."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
