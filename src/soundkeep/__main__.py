"""The program `soundkeep`, also as `python -m soundkeep`."""

from __future__ import annotations

from soundkeep.loading import loading


def main() -> None:
    """Loads the command line and runs it; ends with its exit code."""
    with loading():
        from soundkeep.cli import main as run  # noqa: PLC0415 - loading is what this is about
    run()


if __name__ == "__main__":
    main()
