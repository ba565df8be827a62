"""Files that others wrote, read in bounds; JSON that holds an object, with errors that a user can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seedbed.base.errors import BundleError

MAX_BYTES = 1 << 28  # the largest tokenizer.json of 2025 has 34 MB


def read_file(file: Path) -> bytes:
    """All of a file; a BundleError where it may not be read or is too large for what it is."""
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise BundleError(f"{file} has {size} bytes, allowed are {MAX_BYTES}; use a model's own file")
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}; see who may read it") from None


def read_object(file: Path) -> dict[str, Any]:
    """The object of a JSON file; a BundleError names the file that cannot be read or holds something else."""
    try:
        values = json.loads(read_file(file))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise BundleError(f"{file} is not JSON ({error}); write or download it again") from None
    if not isinstance(values, dict):
        raise BundleError(
            f"{file} holds a {type(values).__name__}, not an object; write or download it again"
        )
    return values
