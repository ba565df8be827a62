"""Tokenizer files from elsewhere: read within bounds, and the `tokenizers` library's failures as one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seedbed.base.errors import BundleError, SeedbedError
from seedbed.base.json_file import read_file

# The library frees a unigram model one call deep per character of its longest entry: 200,000 characters
# overflow a stack of 8 MiB and end the process, 80,000 do not (tokenizers 0.23.3, November 2026).
MAX_ENTRY_CHARACTERS = 4096


@contextmanager
def library_errors(
    source: Path | str, *, advice: str = "use a tokenizer.json that is whole"
) -> Iterator[None]:
    """Turn every failure of the library on a bad tokenizer file into a BundleError of one line."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError, SeedbedError):
        raise
    except BaseException as error:  # a panic of the library is not an Exception
        cause = " ".join(str(error).split())[:200]
        raise BundleError(f"{source} cannot be used: {cause}; {advice}") from error


def read_text(file: Path) -> str:
    """All of a UTF-8 file, with universal newlines."""
    try:
        text = read_file(file).decode()
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{file} is not UTF-8 at offset {error.start}; save it as UTF-8 or download it again"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_long_entries(content: bytes) -> None:
    """Raise a ValueError for a tokenizer.json with a scored entry so long that the library would crash.

    Only a file with so long a string is parsed once more for this; a character map is one, too.
    """

    def refuse_long(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in pairs:
            entries = value if key == "vocab" and isinstance(value, list) else []
            if any(isinstance(e, list) and e and len(str(e[0])) > MAX_ENTRY_CHARACTERS for e in entries):
                raise ValueError(f"it has an entry longer than {MAX_ENTRY_CHARACTERS} characters")
        return dict(pairs)

    texts = content.replace(b'\\"', b"__").split(b'"')
    if max(map(len, texts)) > MAX_ENTRY_CHARACTERS:
        json.loads(content, object_pairs_hook=refuse_long)
