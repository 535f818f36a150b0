"""Programs of tests/node, run by Node with packages that are brought once into .cache."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BRINGS_WITHIN_SECONDS = 900


def node_program(directory: str, program: str) -> list[str]:
    """The command that runs `tests/node/DIRECTORY/PROGRAM`. Brings its packages first."""
    home = _brought(directory)
    # A module looks for packages beside itself, and nothing is to be brought into the tree.
    copy = shutil.copy(ROOT / "tests/node" / directory / program, home / program)
    return ["node", str(copy)]


def node_command(directory: str, command: str) -> list[str]:
    """The command of that name in a package that `tests/node/DIRECTORY` names."""
    return ["node", str(_brought(directory) / "node_modules/.bin" / command)]


def _brought(directory: str) -> Path:
    """Where the packages lie."""
    source, home = ROOT / "tests/node" / directory, ROOT / ".cache" / f"node-{directory}"
    brought = [source.relative_to(ROOT), home.relative_to(ROOT), "--omit=optional"]
    command = [ROOT / "scripts/bring-node-packages", *brought]
    subprocess.run(command, check=True, timeout=BRINGS_WITHIN_SECONDS)
    return home
