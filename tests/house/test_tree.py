"""The tree itself: it names no one's machine, and its tests and modules say what they promise."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("src", "tests", "benchmarks", "docs", "changes", "scripts", ".ci")
MADE_BY_RUNNING = {"__pycache__", ".mypy_cache", ".ruff_cache"}
PICTURES_AND_SOUND = {".png", ".ico", ".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a", ".webm"}

# On whose machine a line was written, and from which mirror its packages came, says nothing to its
# reader. uv.lock is uv's own and is not looked at; this file has to spell the words out.
FOREIGN = re.compile(
    rf"{re.escape(str(ROOT))}/|{re.escape(str(Path.home()))}/|/home/\w+/|/Users/\w+/"
    r"|\bpypi\.org\b|\bpythonhosted\b|\bregistry\.npmjs\b|\bdeb\.debian\.org\b",
    re.IGNORECASE,
)
HASH = re.compile(r'"sha512-[A-Za-z0-9+/=]+"')  # of a package; its letters may spell anything
SENTENCE_WORDS = 3
FRAGMENT = re.compile(r"(\d{4}-[a-z0-9-]+|README)\.md")


def files() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.name != "uv.lock")
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file())


def texts() -> list[Path]:
    return sorted(
        path
        for path in files()
        if path.suffix not in PICTURES_AND_SOUND | {".pyc"}
        and not MADE_BY_RUNNING & set(path.parts)
        and path != Path(__file__).resolve()
    )


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def named_tests(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from [node.name] if node.name.startswith("test_") else []


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_nothing_names_a_machine_or_a_mirror() -> None:
    found = [
        f"{shown(path)}: {match.group()}"
        for path in texts()
        for match in FOREIGN.finditer(HASH.sub("", path.read_text()))
    ]
    assert not found


@pytest.mark.parametrize("module", modules("tests", "src/soundkeep/testing"), ids=shown)
def test_every_test_is_named_by_a_sentence(module: Path) -> None:
    words = {name: name.removeprefix("test_").split("_") for name in named_tests(module)}
    assert not [name for name, said in words.items() if len(said) < SENTENCE_WORDS]


@pytest.mark.parametrize("module", modules("src", "benchmarks", "tests"), ids=shown)
def test_every_module_opens_with_its_promise(module: Path) -> None:
    tree = ast.parse(module.read_text())
    assert not tree.body or ast.get_docstring(tree)


def test_no_two_test_files_share_a_name() -> None:
    """A failure is reported by the file's name: it should lead to one file."""
    names = Counter(path.name for path in modules("tests") if path.name.startswith("test_"))
    assert not [name for name, count in names.items() if count > 1]


def test_every_change_fragment_has_a_number_and_a_name_of_its_own() -> None:
    names = [path.name for path in (ROOT / "changes").iterdir()]
    assert not [name for name in names if not FRAGMENT.fullmatch(name)]
    numbers = Counter(name[:4] for name in names if name != "README.md")
    assert not [number for number, count in numbers.items() if count > 1]


def test_every_benchmark_is_run_by_make_bench() -> None:
    shared = {"harness", "load", "peers"}
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - shared
    listed = re.search(r"^BENCHMARKS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed
    assert set(listed.group(1).split()) == scripts


def test_no_test_is_excused_without_a_reason() -> None:
    bare = re.compile(r"# type: ignore(?!\[)|# noqa(?!:)|mark\.(skip|xfail)(?!if)(?!\(reason=)")
    found = [
        f"{shown(path)}: {match.group()}"
        for path in modules("src", "tests", "benchmarks")
        if path != Path(__file__).resolve()
        for match in bare.finditer(path.read_text())
    ]
    assert not found
