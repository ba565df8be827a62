"""Ranked search by words (BM25, Robertson and Zaragoza 2009), in SQLite's full-text index FTS5."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

WORD = re.compile(r"\w+")


class BM25Index:
    """Texts in memory that are found by their words, with FTS5's k1 = 1.2 and b = 0.75.

    Words are compared without case, accents and English endings (Porter 1980).
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute("CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='porter unicode61')")
        rows = ((number, text) for number, text in enumerate(texts))
        self._database.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", rows)

    def nearest(self, query: str, number: int) -> list[int]:
        """The numbers of at most so many texts that share a word with a query, best first; ties in order."""
        words = dict.fromkeys(WORD.findall(query.lower()))
        if not words or number < 1:
            return []
        wanted = " OR ".join(f'"{word}"' for word in words)
        found = self._database.execute(
            "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY bm25(texts), rowid LIMIT ?",
            (wanted, number),
        )
        return [int(row[0]) for row in found]
