"""The words by which a track is found, on SQLite (FTS5) and PostgreSQL (tsvector) alike.

A track is found when each word of the query begins a word of its title, path or id. Both
databases get the same prepared words, because their own parsers disagree (PostgreSQL's takes
`book/ch1.mp3` for one word, a file name). The index itself, `track_words`, is made by the
migrations.
"""

from __future__ import annotations

import re
import unicodedata

from sqlalchemy import ColumnElement, literal_column, text

MAX_QUERY_WORDS = 12

_WORD = re.compile(r"[^\W_]+")


def words_of(*texts: str) -> str:
    """What is searched: the words of all texts, case and accents folded, each once."""
    return " ".join(dict.fromkeys(_WORD.findall(_folded(" ".join(texts)))))


def matches(query: str, *, on_postgresql: bool) -> ColumnElement[bool] | None:
    """The condition on `tracks` for a query, or None if the query has no words."""
    words = _WORD.findall(_folded(query))[:MAX_QUERY_WORDS]
    if not words:
        return None
    if on_postgresql:
        prefixes = " & ".join(f"'{word}':*" for word in words)
        return text(
            "to_tsvector('simple', tracks.words) @@ to_tsquery('simple', :prefixes)"
        ).bindparams(prefixes=prefixes)  # type: ignore[return-value]
    prefixes = " ".join(f'"{word}"*' for word in words)
    return literal_column("tracks.seq").in_(
        text("SELECT rowid FROM track_words WHERE track_words MATCH :prefixes").bindparams(
            prefixes=prefixes
        )
    )


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))
