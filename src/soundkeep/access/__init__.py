"""Who may: for now one admin key, which guards everything but public audio."""
