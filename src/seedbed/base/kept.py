"""Measured figures that are kept on disk, so that two calls minutes apart give the same answer."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from seedbed.base.errors import SeedbedError
from seedbed.base.files import write_file
from seedbed.base.runtime import cache_folder

KEPT_SECONDS = 86_400.0


class Kept(NamedTuple):
    """A value and its age."""

    value: Any
    age_seconds: float


def kept(
    kind: str,
    key: Mapping[str, Any],
    make: Callable[[], Any],
    *,
    read: Callable[[Any], Any] = lambda value: value,
    renew: bool = False,
) -> Kept:
    """The value of a key that is less than a day old, or a new one, which is written if possible.

    `read` makes the result of the value; a kept value that it refuses is damaged or of another version.
    """
    text = json.dumps(key, sort_keys=True)
    path = cache_folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        saved = json.loads(path.read_bytes()) if not renew else {}
        age = time.time() - saved["made"]
        if saved["key"] == json.loads(text) and 0 <= age < KEPT_SECONDS:
            return Kept(read(saved["value"]), age)
    value = make()
    with suppress(OSError, SeedbedError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps({"made": time.time(), "key": key, "value": value}).encode())
    return Kept(read(value), 0.0)
