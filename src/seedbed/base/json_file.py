"""Files from outside, read up to a limit of size; JSON objects, with errors that a user can act on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seedbed.base.errors import BundleError

MAX_BYTES = 1 << 28  # the largest tokenizer.json of 2025 has 34 MB


def require_own(file: Path) -> None:
    """Refuse with a BundleError a symbolic link out of its folder, which could be to any file of the user's.

    Links of the hub's cache, from a snapshot to its blobs, are allowed.
    """
    folder, target = file.parent.resolve(), file.resolve()
    snapshot = next((place for place in (folder, *folder.parents) if place.parent.name == "snapshots"), None)
    allowed = [folder] if snapshot is None else [folder, snapshot.parents[1] / "blobs"]
    if not any(target.is_relative_to(place) for place in allowed):
        raise BundleError(
            f"{file} is a link to {target}, which is outside of its folder; copy that file here"
        )


def has_file(file: Path) -> bool:
    """Whether a file is there.

    Errors: BundleError for something else in its place, such as a folder, a pipe, or a link to nothing.
    """
    if file.is_file():
        return True
    if os.path.lexists(file):
        raise BundleError(f"{file} is not a regular file; put the file in its place, or remove it")
    return False


def read_file(file: Path) -> bytes:
    """The content of a file of a model's folder.

    Errors: BundleError if it cannot be read, is larger than MAX_BYTES, or is a link out of its folder.
    """
    try:
        require_own(file)
        if (size := file.stat().st_size) > MAX_BYTES:
            allowed = f"more than the allowed {MAX_BYTES}; use a model's own file"
            raise BundleError(f"{file} has {size} bytes, {allowed}")
        return file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}; check its permissions") from None


def json_problem(error: Exception) -> str:
    """What is wrong with a JSON text, without Python's advice to programmers."""
    if isinstance(error, RecursionError):
        return "its lists and objects are too deep in one another"
    return "it has a number of over 4,300 digits" if "digits" in str(error) else str(error)


def read_object(file: Path) -> dict[str, Any]:
    """The object of a JSON file; BundleError if the file cannot be read or contains something else."""
    try:
        values = json.loads(read_file(file))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise BundleError(f"{file} is not JSON ({json_problem(error)}); write or download it again") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise BundleError(f"{file} contains a {kind}, not an object; write or download it again")
    return values
