"""What people install is what lies in the tree: hatchling drops what git ignores."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
MADE_BY_RUNNING = {"__pycache__", ".mypy_cache", ".ruff_cache"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built by the backend itself, with no network and no second environment."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = folder.iterdir()
    return zipfile.ZipFile(built)


def source_files() -> set[str]:
    files = (path for path in (SOURCE / "soundkeep").rglob("*") if path.is_file())
    return {
        path.relative_to(SOURCE).as_posix()
        for path in files
        if not MADE_BY_RUNNING & set(path.parts)
    }


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if name.startswith("soundkeep/")}
    assert inside == source_files()
    assert "soundkeep/py.typed" in inside


def test_every_file_in_the_wheel_has_the_bytes_of_the_tree(wheel: zipfile.ZipFile) -> None:
    for name in sorted(source_files()):
        assert wheel.read(name) == (SOURCE / name).read_bytes(), name


def test_the_wheel_carries_its_licence_and_its_command(wheel: zipfile.ZipFile) -> None:
    names = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    assert wheel.read(names["LICENSE"]) == (ROOT / "LICENSE").read_bytes()
    assert b"soundkeep = soundkeep.__main__:main" in wheel.read(names["entry_points.txt"])


def test_nothing_but_the_package_is_installed(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"soundkeep"}
