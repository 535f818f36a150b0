"""Nothing can be set, called, typed or refused that the docs do not mention.

The other direction is a person's work: no test can see whether a sentence is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from pydantic import BaseModel

from soundkeep.errors import SoundkeepError
from soundkeep.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "changes").glob("*.md")]
)


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def mentions(text: str, word: str) -> bool:
    """The word stands there as a whole: `http.port` is not said by `http.portal`."""
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", text) is not None


# --- settings -------------------------------------------------------------------------------


def setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted, as in the file; `stores.NAME.path` stands for every store's."""
    for field_name, field in model.model_fields.items():
        name = prefix + (field.alias or field_name)
        tables = list(tables_in(field.annotation))
        for table in tables:
            middle = ".NAME." if "dict" in str(field.annotation) else "."
            yield from setting_names(table, name + middle)
        if not tables:
            yield name


def tables_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from tables_in(part)


@pytest.mark.parametrize("name", sorted(set(setting_names(Settings))))
def test_every_setting_is_in_the_settings_page(name: str) -> None:
    assert mentions(page("settings.md"), name)


def test_settings_are_found_in_tables_and_in_stores() -> None:
    names = set(setting_names(Settings))
    assert {"data", "http.port", "policy.keep", "stores.NAME.kind", "stores.NAME.path"} <= names
    assert not {"http", "policy", "stores"} & names


# --- errors ---------------------------------------------------------------------------------


def error_codes(error: type[SoundkeepError]) -> Iterator[str]:
    yield error.code
    for kind in error.__subclasses__():
        yield from error_codes(kind)


@pytest.mark.parametrize("code", sorted(set(error_codes(SoundkeepError))))
def test_every_error_code_is_in_the_http_page(code: str) -> None:
    assert mentions(page("http.md"), code)


def test_no_two_errors_share_a_code() -> None:
    codes = list(error_codes(SoundkeepError))
    assert sorted(codes) == sorted(set(codes))


# --- routes ---------------------------------------------------------------------------------


def routes() -> list[str]:
    """Every path the server answers at, as its one table of routes spells it."""
    from soundkeep.web.routes import ROUTES

    return sorted({route.path for route in ROUTES})


def test_every_route_is_in_the_http_page() -> None:
    missing = [path for path in routes() if path not in page("http.md")]
    assert not missing


# --- the command line -----------------------------------------------------------------------


def commands(command: Any, name: str = "soundkeep") -> Iterator[tuple[str, Any]]:
    """Each command that does something, with its whole name. (Typer carries its own click.)"""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for verb, child in children.items():
        yield from commands(child, f"{name} {verb}")


def test_every_command_and_each_of_its_options_is_in_the_command_line_page() -> None:
    from soundkeep.cli import app

    missing = []
    for name, command in commands(typer.main.get_command(app)):
        words = [name, *long_options(command)]
        missing += [f"{name}: {word}" for word in words if not mentions(page("cli.md"), word)]
    assert not missing


def long_options(command: Any) -> list[str]:
    options = [each for each in command.params if each.param_type_name == "option"]
    shown = [each for each in options if not each.hidden]
    return [name for option in shown for name in option.opts if name.startswith("--")]


# --- links ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    targets = [target for target in LINK.findall(path.read_text()) if ":" not in target]
    assert not [target for target in targets if not (path.parent / target).exists()]


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    assert not set(index.parent.rglob("*.md")) - reachable_from(index)


def reachable_from(start: Path) -> set[Path]:
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".md" or not path.exists():
            continue
        seen.add(path)
        waiting += [(path.parent / target).resolve() for target in LINK.findall(path.read_text())]
    return seen
