"""Arguments of public functions, checked where they come in: a wrong one is a UsageError of one line."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from seedbed.base.errors import UsageError, nearest

MAX_NAME, MAX_PATH = 255, 4096  # bytes of a file's name and of a path, as Linux allows them


def brief(value: object) -> str:
    """A value in a few words, in one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of over 4,300 digits, or an object that cannot say what it is
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."


def path_of(name: str, value: Any) -> Path:
    """A path, or its text."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UsageError(f"{name}={brief(value)} is not a path; give a text or a Path")
    text = os.fspath(value)
    try:
        encoded = os.fsencode(text)  # a name that is not UTF-8 is one all the same
    except UnicodeEncodeError:
        encoded = b"\x00"
    if b"\x00" in encoded:
        raise UsageError(f"{name}={brief(value)} has characters that no path has; give another one")
    if len(encoded) > MAX_PATH or any(len(part) > MAX_NAME for part in encoded.split(b"/")):
        raise UsageError(
            f"{name}={brief(value)} has {len(encoded)} bytes; a name has at most {MAX_NAME}, and a path "
            f"{MAX_PATH}: give a shorter one"
        )
    if not os.path.isabs(text) and not _has_current_folder():
        raise UsageError("the current folder does not exist any more; change to one that does")
    return Path(value)


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def bool_of(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{name}={brief(value)} is not allowed; give True or False")
    return value


def text_of(name: str, value: Any) -> str:
    """A text that UTF-8 can write."""
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UsageError(f"{name}={brief(value)} is not a text; give one, without halves of characters")
    return value


def texts_of(name: str, values: Any) -> list[str]:
    """A list of texts, not one text."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise UsageError(f"{name}={brief(values)} is not a list of texts; give one, such as ['a=1']")
    return [text_of(f"{name}[{i}]", value) for i, value in enumerate(values)]


def choice_of(name: str, value: Any, allowed: Collection[str]) -> str:
    """One of several texts."""
    if not isinstance(value, str) or value not in allowed:
        raise UsageError(f"{name}={brief(value)} is unknown; {nearest(str(value)[:60], allowed)}")
    return value


def whole_of(name: str, value: Any, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number in a range."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UsageError(f"{name}={brief(value)} is not a whole number; give one from {least} to {most}")
    try:
        number = int(value.__index__())
    except TypeError:  # an array
        raise UsageError(f"{name}={brief(value)} is not a whole number; give one") from None
    if not least <= number <= most:
        raise UsageError(f"{name}={brief(value)} is not allowed; give a whole number from {least} to {most}")
    return number
