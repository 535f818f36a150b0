"""`plans`: what is spoken before anybody asks for it, how far that is, and how to stop it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from soundkeep.cli.options import Options, options_of, run
from soundkeep.cli.output import say, say_json, say_rows
from soundkeep.cli.service import MAX_PAGE, Document, Service

app = typer.Typer(help="See and steer what is spoken in advance.", no_args_is_help=True)

HEADERS = ("plan", "name", "state", "segments", "spent", "left at most")

PlanId = Annotated[str, typer.Argument(metavar="ID", help="A plan, as `plans list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List plans and how far each is, the newest first."""
    options = options_of(context)
    page = run(options, _list(options))
    if as_json:
        say_json(page)
        return
    say_rows(HEADERS, map(_row, page["items"]))


@app.command("show")
def show(context: typer.Context, plan: PlanId, as_json: AsJson = False) -> None:
    """Show one plan, and what of it could not be spoken or not yet."""
    _turn(context, lambda service: service.plan(plan), as_json=as_json)


@app.command("pause")
def pause(context: typer.Context, plan: PlanId, as_json: AsJson = False) -> None:
    """Begin nothing more until it is resumed."""
    _turn(context, lambda service: service.pause_plan(plan), as_json=as_json)


@app.command("resume")
def resume(
    context: typer.Context,
    plan: PlanId,
    budget: Annotated[str | None, typer.Option(help="Under another budget.")] = None,
    as_json: AsJson = False,
) -> None:
    """Go on, also with what failed."""
    _turn(context, lambda service: service.resume_plan(plan, budget), as_json=as_json)


@app.command("cancel")
def cancel(context: typer.Context, plan: PlanId, as_json: AsJson = False) -> None:
    """End it for ever; what was spoken is kept."""
    _turn(context, lambda service: service.cancel_plan(plan), as_json=as_json)


async def _list(options: Options) -> Document:
    async with options.service() as service:
        return await service.plans(MAX_PAGE)


def _turn(
    context: typer.Context, do: Callable[[Service], Awaitable[Document]], *, as_json: bool
) -> None:
    options = options_of(context)
    plan = run(options, _done(options, do))
    say_json(plan) if as_json else say_plan(plan)


async def _done(options: Options, do: Callable[[Service], Awaitable[Document]]) -> Document:
    async with options.service() as service:
        return await do(service)


def say_plan(plan: Document) -> None:
    """A plan for a person: one line, why it rests if it does, and what failed."""
    say_rows(HEADERS, [_row(plan)])
    if plan["error"]:
        say(plan["error"])
    for failing in plan["failing"]:
        say(f"  {failing['segment'][:12]} {failing['state']}: {failing['error']}")


def _row(plan: Document) -> tuple[str, ...]:
    return (
        plan["id"],
        plan["name"],
        plan["state"],
        f"{plan['segments_done']}/{plan['segments']}",
        _amount(plan, plan["spent"], of=plan["budget"]),
        _amount(plan, plan["estimate_left"]),
    )


def _amount(plan: Document, amount: float, of: float | None = None) -> str:
    within = f" of {of:.2f}" if of is not None else ""
    return f"{amount:.2f}{within} {plan['currency']}" if plan["currency"] else ""
