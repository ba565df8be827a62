"""Errors that a user, a file or a setting can cause; the message says what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MAX_MESSAGE = 900  # characters


class SeedbedWarning(UserWarning):
    """A warning to the user while the work continues; the command line prints it as one line."""


class SeedbedError(Exception):
    """The root of all errors that the command line prints as one line instead of a traceback.

    The message is one line of about MAX_MESSAGE characters at most, whatever names and values it quotes.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        text = "\\n".join(str(message).splitlines())
        if len(text) > MAX_MESSAGE:
            text = f"{text[: MAX_MESSAGE // 2]} ... {text[-MAX_MESSAGE // 2 + 5 :]}"
        super().__init__(text)


class UsageError(SeedbedError):
    """A wrong argument, an unknown key or name."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting or config field that is not allowed, alone or together with another one."""


class DataError(SeedbedError):
    """A corpus that cannot be read or has nothing to train on."""


class BundleError(SeedbedError):
    """A model's folder or file that is missing, damaged or contradicts itself."""


class CheckpointError(SeedbedError):
    """A checkpoint or run folder that cannot be resumed."""


class HardwareError(SeedbedError):
    """Not enough memory, disk or devices."""


class TrainingError(SeedbedError):
    """A loss or gradients that are not finite."""


class StoppedEarly(SeedbedError):
    """A signal or a budget stopped the work; everything is saved, and the same command resumes it."""

    exit_code = 75


def nearest_path(path: Path) -> str:
    """The middle of a message about a path that does not exist: the one with the nearest name, if any."""
    rest: list[str] = []
    with suppress(OSError):
        while not path.parent.is_dir():
            rest, path = [path.name, *rest], path.parent
        close = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
        for name in close:
            near = path.with_name(name)
            whole = near.joinpath(*rest)
            return f"did you mean {whole if whole.exists() else near}? "
    return ""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest allowed name, and all of them."""
    names = sorted(allowed)
    close = difflib.get_close_matches(str(name)[:100], names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"
