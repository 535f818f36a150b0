"""The admin key: made at first start, kept in a file that only its owner can read."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

import structlog

from soundkeep.errors import SettingsError

KEY_BYTES = 32
FILE_NAME = "admin.key"

log = structlog.get_logger()


def load_or_make_admin_key(path: Path, configured: str | None) -> tuple[str, bool]:
    """The key, and whether it was made just now. A configured key wins over the file.

    Of two processes that start at once both get the same key. A file that others may read is
    tightened to its owner, and that is said. Raises `SettingsError`.
    """
    if configured is not None:
        return _checked(configured, "SOUNDKEEP_ADMIN_KEY"), False
    try:
        made = _make(path)
        text = path.read_text(encoding="ascii", errors="replace").strip()
        _tighten(path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    return _checked(text, str(path)), made


class KeyRing:
    """Tells whether an `Authorization` field carries the key, in constant time."""

    def __init__(self, key: str) -> None:
        self._exact = f"Bearer {key}".encode()
        self._expected = hashlib.sha256(self._exact).digest()

    def allows(self, authorization: bytes | None) -> bool:
        """`authorization` is the field's value as it came. The scheme may be in any case."""
        if authorization is None:
            return False
        if hmac.compare_digest(authorization, self._exact):
            return True  # as nearly everybody writes it, in a third of the time
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        given = hashlib.sha256(b"Bearer " + key.strip()).digest()
        return hmac.compare_digest(given, self._expected)


def _make(path: Path) -> bool:
    """Writes a new key under another name and links it: whole, and only if there is none yet."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(file, secrets.token_urlsafe(KEY_BYTES).encode() + b"\n")
        os.fsync(file)
        os.link(temporary, path)
        _sync(path.parent)
    except FileExistsError:
        return False
    finally:
        os.close(file)
        temporary.unlink()
    return True


def _sync(directory: Path) -> None:
    """The key is shown once, so its name must outlive a power cut as well."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _tighten(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
        log.warning("others could read the admin key; now only its owner can", path=str(path))


def _checked(key: str, source: str) -> str:
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"{source}: an admin key has 16 or more printable ASCII characters")
    return key
