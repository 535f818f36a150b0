"""Soundkeep keeps audio so that it always plays, is never paid for twice and is never lost.

The rooms of the house, and who may look into which, are described in ``docs/architecture.md``;
``keep.Keep`` is the front door of the library.
"""

__version__ = "0.1.0"
