"""The command line: one file for each group of verbs, over one door to a keep, here or elsewhere.

Exit codes: 0 all is well; 1 something is missing or failed; 2 wrong usage or settings;
3 a server, a store or the catalog cannot be reached; 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from soundkeep.cli.adding import add
from soundkeep.cli.app import app
from soundkeep.cli.importing import import_
from soundkeep.cli.keeping import get, ls, retry, rm, show
from soundkeep.cli.running import REACHED_NOTHING, WENT_WRONG, WRONG_USAGE, complain
from soundkeep.cli.serving import serve, work
from soundkeep.cli.standing import check, doctor, list_stores, show_settings, status, test_store
from soundkeep.errors import (
    BadInput,
    CatalogUnavailable,
    SettingsError,
    ShuttingDown,
    SoundkeepError,
    StoreError,
)

VERBS = (
    (add, import_, ls, show, get, rm, retry),
    (serve, work),
    (status, check, list_stores, test_store, show_settings, doctor),
)
__all__ = ["VERBS", "app", "main"]

INTERRUPTED = 130


def main() -> None:
    """Runs the command line; whatever goes wrong is one line, never a traceback."""
    try:
        app(standalone_mode=True)
    except SoundkeepError as error:
        complain(str(error))
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        complain("interrupted; what was acknowledged is kept")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if "--verbose" in sys.argv:
            raise
        complain(f"a fault of ours: {type(error).__name__}: {error}. --verbose says more")
        sys.exit(WENT_WRONG)


def exit_code(error: SoundkeepError) -> int:
    """What a script learns from a failure."""
    if isinstance(error, SettingsError | BadInput):
        return WRONG_USAGE
    if isinstance(error, CatalogUnavailable | StoreError | ShuttingDown):
        return REACHED_NOTHING
    return WENT_WRONG
