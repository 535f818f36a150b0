"""Imports point one way, so that every room can be read without those above it.

The order is the one in `docs/architecture.md`. An import inside a function or under
TYPE_CHECKING is an import like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "soundkeep"

# From the top down: a room imports only from levels below its own, never from a sibling.
LEVELS = (
    {"cli", "web", "worker"},
    {"rebuilding"},
    {"build"},
    {"chores", "rendering"},
    {"keep"},
    {"speech"},
    {"intake"},
    {"copies"},
    {"reading"},
    {"access", "events"},
    {"catalog", "stores", "audio", "outbound"},
    {
        "digest",
        "ranges",
        "errors",
        "loading",
        "names",
        "model",
        "answers",
        "writing",
        "settings",
        "shown",
    },
)
VALUES = LEVELS[-1]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

STARTED_BY = {"cli": {"web", "worker", "testing"}}
TESTING_MAY = {"testing", "stores", "speech"} | VALUES

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(module: Path) -> Iterator[str]:
    """Every dotted name a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def absolute(node: ast.ImportFrom, module: Path) -> str:
    if not node.level:
        return node.module or ""
    package = ("soundkeep", *module.relative_to(PACKAGE).parts[:-1])
    base = package[: len(package) - node.level + 1]
    return ".".join((*base, node.module) if node.module else base)


def imported_rooms(module: Path) -> set[str]:
    """The rooms among them; what the package itself defines (`__version__`) is no room."""
    names = [name.split(".") for name in imported_names(module)]
    return {parts[1] for parts in names if parts[0] == "soundkeep" and len(parts) > 1} & (
        LEVEL_OF.keys() | {"testing"}
    )


def allowed_rooms(room: str) -> set[str]:
    if room == "testing":
        return TESTING_MAY
    lower = {other for other, level in LEVEL_OF.items() if level > LEVEL_OF[room]}
    return lower | {room} | STARTED_BY.get(room, set()) | (VALUES if room in VALUES else set())


def test_every_module_lies_in_a_room_of_the_plan() -> None:
    rooms = {room_of(module) for module in MODULES} - {"__init__", "__main__"}
    assert rooms <= LEVEL_OF.keys() | {"testing"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_only_to_the_right(module: Path) -> None:
    room = room_of(module)
    if room == "__init__":
        # The front door may show any room but what runs them.
        assert not imported_rooms(module) & LEVELS[0]
    elif room == "__main__":
        assert imported_rooms(module) <= {"cli", "loading"}
    else:
        assert imported_rooms(module) <= allowed_rooms(room)


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "testing"], ids=str)
def test_what_is_shipped_for_testing_needs_no_test_runner(module: Path) -> None:
    assert not {name.partition(".")[0] for name in imported_names(module)} & {"pytest", "_pytest"}


def test_the_package_has_no_import_in_a_circle_between_values() -> None:
    """Values may know one another (a range raises an error), but never in a circle."""
    knows = {room: rooms_known_by(room) & VALUES - {room} for room in VALUES}
    while knows:
        free = {room for room, needed in knows.items() if not needed & knows.keys()}
        assert free, f"these import one another in a circle: {sorted(knows)}"
        knows = {room: needed for room, needed in knows.items() if room not in free}


def rooms_known_by(room: str) -> set[str]:
    return set().union(*(imported_rooms(each) for each in MODULES if room_of(each) == room))


# --- the test itself is tested --------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "import soundkeep.web.app",
        "from soundkeep.web import app",
        "from soundkeep import web",
        "from ..web import app",
        "from .. import web",
        "def late():\n    from soundkeep.web.app import make_app",
        "if TYPE_CHECKING:\n    from soundkeep.web.app import make_app",
    ],
)
def test_no_way_to_write_an_import_is_overlooked(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    module = tmp_path / "catalog" / "claims.py"
    module.parent.mkdir()
    module.write_text(line)
    assert imported_rooms(module) == {"web"}
    assert "web" not in allowed_rooms(room_of(module))


def test_only_the_command_line_may_start_its_siblings() -> None:
    assert {"web", "worker", "keep"} <= allowed_rooms("cli")
    assert not allowed_rooms("web") & {"cli", "worker"}
    assert not allowed_rooms("stores") & {"catalog", "audio", "outbound"}
