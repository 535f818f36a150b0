"""Walks a directory tree for `import`: every regular file, in order, with the path it will have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Names by which people mean audio; what is not kept of these is missing, the rest was left out.
AUDIO_SUFFIXES = frozenset(
    {".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aac", ".m4a", ".mp4", ".webm"}
    | {".aif", ".aiff", ".wma", ".ape", ".wv", ".mpc", ".spx"}
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to import. `path` is relative to the tree, with `/` between segments."""

    file: Path
    path: str
    size_bytes: int

    @property
    def means_audio(self) -> bool:
        """Whether its name says that it is audio."""
        return self.file.suffix.lower() in AUDIO_SUFFIXES


def walk(directory: Path) -> Iterator[Candidate]:
    """Every regular file under a directory, sorted; links are not followed, hidden files and
    directories are left out. Raises `OSError` if the directory itself cannot be read."""
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            for candidate in walk(Path(entry.path)):
                path = f"{entry.name}/{candidate.path}"
                yield Candidate(candidate.file, path, candidate.size_bytes)
        elif entry.is_file(follow_symlinks=False):
            yield Candidate(Path(entry.path), entry.name, entry.stat().st_size)


def digest_of(file: Path) -> str:
    """The file's SHA-256 in hex. Raises `OSError`."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
