"""What went wrong, as one line for a person and an exit code for a script.

| code | means                                                         |
|------|---------------------------------------------------------------|
| 0    | done                                                          |
| 1    | the check did not pass, or at least one item failed           |
| 2    | the command or the settings cannot be used                    |
| 3    | the server, the catalog, a store or an engine is out of reach |
| 130  | interrupted                                                   |
"""

from __future__ import annotations

import structlog

from soundkeep import errors

FAILED = 1
UNUSABLE = 2
UNREACHABLE = 3
INTERRUPTED = 130

# The first that fits decides.
CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.SettingsError, UNUSABLE),
    (errors.Unauthorized, UNUSABLE),
    (errors.NoSuchStore, UNUSABLE),
    (errors.CatalogUnavailable, UNREACHABLE),
    (errors.Unplayable, UNREACHABLE),
    (errors.ShuttingDown, UNREACHABLE),
    (errors.EngineUnavailable, UNREACHABLE),
    (errors.StoreError, UNREACHABLE),
)

log = structlog.get_logger()


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ended a command."""
    return next((code for kind, code in CODES if isinstance(error, kind)), FAILED)


def sentence(error: Exception) -> str:
    """One line. A fault of ours names itself, and `--verbose` shows where it came from."""
    if isinstance(error, errors.SoundkeepError):
        return " ".join(str(error).split())
    log.debug("unexpected", exc_info=error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (
        f"unexpected {type(error).__name__}: {' '.join(str(error).split())} (--verbose says more)"
    )
