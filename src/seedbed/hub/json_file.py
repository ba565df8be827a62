"""JSON files that hold an object, with errors that a user can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seedbed.base.errors import BundleError


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file; a BundleError names the file that cannot be read or holds something else."""
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; see who may read it") from None
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise BundleError(f"{path} is not JSON ({error}); write or download it again") from None
    if not isinstance(values, dict):
        raise BundleError(
            f"{path} holds a {type(values).__name__}, not an object; write or download it again"
        )
    return values
