"""`doctor`: examines this installation, or with `--url` any server, and names the next step."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from soundkeep.cli.failures import FAILED
from soundkeep.cli.options import options_of, run
from soundkeep.cli.output import say, say_json


def doctor(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="Try this audio URL, or this Soundkeep server.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The key to send there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine this installation and name the next step; or any server, with --url."""
    # Not above: each side's libraries are paid for by who looks at it.
    from soundkeep.cli import doctor as installation  # noqa: PLC0415
    from soundkeep.cli import selftest  # noqa: PLC0415

    options = options_of(context)
    address = url or options.url
    if address:
        findings = run(options, selftest.examine(address, key or options.key))
    else:
        findings = run(options, installation.examine(options), level=logging.ERROR)
    if as_json:
        say_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            say(finding.line())
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(FAILED)
