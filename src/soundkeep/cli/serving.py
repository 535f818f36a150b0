"""`serve` and `work`: the long-running verbs."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from soundkeep.build import opened
from soundkeep.cli.app import Options, app
from soundkeep.cli.doors import only_here
from soundkeep.cli.running import WENT_WRONG, complain, log_to_stderr, out, run
from soundkeep.settings import Settings
from soundkeep.worker import Worker

IDLE_SECONDS = 24 * 3600.0


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port.")] = None,
    worker: Annotated[bool, typer.Option(help="Work the ledger too.")] = True,
) -> None:
    """Run the server, with a worker inside."""
    from soundkeep.web.serving import serve as serve_web  # noqa: PLC0415 - FastAPI is slow to load

    options: Options = context.obj
    only_here(options, "serve")
    log_to_stderr(verbose=options.verbose, serving=True)
    run(serve_web(options.settings(), host=host, port=port, worker=worker, announce=_announce))


@app.command()
def work(
    context: typer.Context,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when nothing is due.")
    ] = False,
) -> None:
    """Work the ledger, beside any number of other workers."""
    options: Options = context.obj
    only_here(options, "work")
    log_to_stderr(verbose=options.verbose, serving=True)
    if not run(_work(options.settings(), until_idle)):
        complain("there is still work that could not be done; `soundkeep status --failed`")
        raise typer.Exit(WENT_WRONG)


async def _work(settings: Settings, until_idle: bool) -> bool:
    async with opened(settings) as house:
        worker = Worker(house)
        worker.start()
        try:
            if until_idle:
                return await worker.settle(IDLE_SECONDS)
            await _until_signal()
            return True
        finally:
            await worker.stop(settings.http.drain_seconds)


async def _until_signal() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _announce(text: str) -> None:
    out.print(text, markup=False)
    out.file.flush()
