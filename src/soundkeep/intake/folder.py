"""Walks a directory tree for `import`: every regular file once, in a steady order, lazily.

Links are followed to a file within the tree and nowhere else; one that leads outside, or to
nothing, is answered as such, so that the caller can name it. Directories behind links are not
entered: their files are met where they really are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from soundkeep.errors import BadInput


class By(StrEnum):
    """How a file is told to which track it belongs."""

    ID = "id"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Found:
    """A file, its name relative to the tree with `/` between segments, and its size.

    `refusal` says why it cannot be taken, for what is no file that may be opened.
    """

    path: Path
    name: str
    size_bytes: int = 0
    refusal: str = ""


class Named:
    """The files of a tree by what they are called, with and without their extension; and which of
    them nobody has asked for."""

    def __init__(self, root: Path) -> None:
        self._found: dict[str, set[str]] = defaultdict(set)
        for file in walk(root):
            if not file.refusal:
                for name in names_of(file.name):
                    self._found[name].add(file.name)
        self._taken: set[str] = set()

    def take(self, *names: str | None) -> str:
        """The one file that has the first of these names that any file has. Raises `BadInput`."""
        for name in filter(None, names):
            files = self._found.get(name, ())
            if len(files) > 1:
                raise BadInput(f"several files are called {name!r}: {', '.join(sorted(files))}")
            for file in files:
                self._taken.add(file)
                return file
        raise BadInput("it has no audio, and no file is called so")

    def left(self) -> list[str]:
        """Those that nobody took."""
        return sorted(set().union(*self._found.values()) - self._taken)


def names_of(path: str) -> frozenset[str]:
    """What a file or a track at this path is called: with its extension, and without."""
    return frozenset({PurePosixPath(path).name, PurePosixPath(path).stem})


def walk(root: Path, without: Collection[Path] = ()) -> Iterator[Found]:
    """Everything under `root` but what lies under the directories `without` (resolved paths).

    Raises `OSError` if `root` itself cannot be read.
    """
    root = root.resolve(strict=True)
    yield from _walk(root, root, frozenset(without), os.scandir(root))


def _walk(
    root: Path, directory: Path, without: frozenset[Path], entries: Iterator[os.DirEntry[str]]
) -> Iterator[Found]:
    for entry in sorted(entries, key=lambda entry: entry.name):
        path = directory / entry.name
        if entry.is_dir(follow_symlinks=False):
            if path not in without:
                yield from _enter(root, path, without)
        elif entry.is_symlink() and path.is_dir():
            continue
        else:
            yield _look(root, path)


def _enter(root: Path, directory: Path, without: frozenset[Path]) -> Iterator[Found]:
    try:
        entries = os.scandir(directory)
    except OSError as error:
        yield Found(directory, _name(root, directory), refusal=_why(error))
        return
    yield from _walk(root, directory, without, entries)


def _look(root: Path, path: Path) -> Found:
    name = _name(root, path)
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(root):
            return Found(path, name, refusal="a link that leads out of the folder")
        if not target.is_file():
            return Found(path, name, refusal="not a regular file")
        return Found(path, name, target.stat().st_size)
    except (OSError, RuntimeError) as error:
        return Found(path, name, refusal=_why(error))


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or "a link that leads nowhere"
