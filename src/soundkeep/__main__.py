"""`python -m soundkeep` is the command line."""

from soundkeep.cli import main

main()
