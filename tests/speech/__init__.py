"""Tests of speech: a package, for a benchmark has the same name."""
