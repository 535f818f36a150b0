"""`serve` and `work`: the server with its worker, and more workers beside it."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Annotated

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import options_of, run
from soundkeep.cli.output import complain
from soundkeep.loading import loading
from soundkeep.settings import Settings

STOP_SECONDS = 20.0
IDLE_SECONDS = 5.0


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on (http.host).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port (http.port); 0 is any free one.")
    ] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Only answer; `soundkeep work` does the rest.")
    ] = False,
) -> None:
    """Serve tracks over HTTP, and work off the ledger."""
    # Not above: other verbs do without these libraries, which take a second to load.
    with loading():
        from soundkeep.web.serving import serve as serve_web  # noqa: PLC0415
        from soundkeep.worker import Worker  # noqa: PLC0415

    options = options_of(context)
    serving = serve_web(
        options.local_settings("serve"),
        host=host,
        port=port,
        worker=None if no_worker else Worker,
        announce=typer.echo,
    )
    run(options, serving, level=logging.INFO)


def work(
    context: typer.Context,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when nothing is due any more.")
    ] = False,
) -> None:
    """Work off the ledger beside a server, on this host or another."""
    options = options_of(context)
    run(options, _work(options.local_settings("work"), until_idle), level=logging.INFO)


async def _work(settings: Settings, until_idle: bool) -> None:
    with loading():
        from soundkeep.build import opened  # noqa: PLC0415 - see `serve`
        from soundkeep.worker import Worker  # noqa: PLC0415

    stopping = _on_signals()
    async with opened(settings) as house:
        worker = Worker(house)
        worker.start()
        try:
            while not stopping.is_set() and not (until_idle and await worker.settle(IDLE_SECONDS)):
                if not until_idle:
                    await stopping.wait()
        finally:
            await worker.stop(STOP_SECONDS)
        if stopping.is_set():
            complain("stopped")
            return
        missing = (await house.keep.check()).coverage.missing
    if missing:
        complain(f"nothing is due now; {missing} copies wait after a failure: soundkeep status")
        raise typer.Exit(FAILED)
    complain("nothing is due any more")


def _on_signals() -> asyncio.Event:
    """Set by SIGTERM and by Ctrl-C, so that leases are given back."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping
