"""Files from outside, read up to a limit of size; JSON objects, with errors that a user can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seedbed.base.errors import BundleError

MAX_BYTES = 1 << 28  # the largest tokenizer.json of 2025 has 34 MB


def read_file(file: Path) -> bytes:
    """The content of a file; BundleError if it cannot be read or is larger than MAX_BYTES."""
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            allowed = f"more than the allowed {MAX_BYTES}; use a model's own file"
            raise BundleError(f"{file} has {size} bytes, {allowed}")
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}; check its permissions") from None


def read_object(file: Path) -> dict[str, Any]:
    """The object of a JSON file; BundleError if the file cannot be read or contains something else."""
    try:
        values = json.loads(read_file(file))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise BundleError(f"{file} is not JSON ({error}); write or download it again") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise BundleError(f"{file} contains a {kind}, not an object; write or download it again")
    return values
