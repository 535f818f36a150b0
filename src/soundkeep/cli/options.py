"""The options that stand before every verb, and what follows from them."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
import typer
import uvloop

from soundkeep.cli.failures import INTERRUPTED
from soundkeep.cli.output import complain
from soundkeep.cli.service import Service
from soundkeep.errors import SettingsError
from soundkeep.loading import loading
from soundkeep.settings import Settings
from soundkeep.settings.sources import load

R = TypeVar("R")

M_ARENA_MAX = -8


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the verb."""

    config: Path | None = None
    data: Path | None = None
    url: str | None = None
    key: str | None = None
    verbose: bool = False

    def settings(self) -> Settings:
        """The effective settings. Raises `SettingsError`."""
        settings = load(self.config)
        return settings if self.data is None else settings.model_copy(update={"data": self.data})

    def local_settings(self, verb: str) -> Settings:
        """The settings, for a verb that works on this machine only. Raises `SettingsError`."""
        if self.url is not None:
            raise SettingsError(f"`{verb}` works on this machine only: leave --url away")
        return self.settings()

    @asynccontextmanager
    async def service(self, *, every_copy: bool = False) -> AsyncIterator[Service]:
        """The server named by `--url`, else the data directory itself.

        There, with `every_copy` an upload makes all its copies itself, which saves the ledger two
        transactions for each.
        """
        # Not above: either side has libraries of its own, half a second and 20 MB that the other
        # does without.
        if self.url is not None:
            with loading():
                from soundkeep.cli.remote import connected  # noqa: PLC0415

            async with connected(self.url, self.key) as server:
                yield server
        else:
            with loading():
                from soundkeep.cli.local import opened_locally  # noqa: PLC0415

            settings = _acknowledging_all(self.settings()) if every_copy else self.settings()
            async with opened_locally(settings) as house:
                yield house


def _acknowledging_all(settings: Settings) -> Settings:
    policy = settings.policy.model_copy(update={"ack_copies": len(settings.policy.keep)})
    limits = settings.limits.model_copy(update={"decoders": 1})  # a file a millisecond is enough
    return settings.model_copy(update={"policy": policy, "limits": limits})


def options_of(context: typer.Context) -> Options:
    """What was said before the verb."""
    options = context.find_object(Options)
    assert options is not None
    return options


def run(options: Options, work: Coroutine[Any, Any, R], *, level: int = logging.WARNING) -> R:
    """Runs a command to its end. Ctrl-C ends it cleanly with code 130."""
    _log_to_stderr(logging.DEBUG if options.verbose else level)
    _share_one_heap()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None


def _share_one_heap() -> None:
    """Tells glibc's allocator to keep one heap for all threads, before there are any.

    Else each of a store's threads keeps what it freed: an import of 1,000 files grew to 117 MB
    instead of 97, in the same time. (M_ARENA_MAX of mallopt(3); other C libraries have none.)
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _log_to_stderr(level: int) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
