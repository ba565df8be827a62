"""What a user, a file or a setting can cause; messages say what was asked, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeedbedWarning(UserWarning):
    """What a user should know of while the work goes on; the command line prints it as one line."""


class SeedbedError(Exception):
    """The root of all errors that the command line prints as one line instead of a traceback."""

    exit_code = 1


class UsageError(SeedbedError):
    """A wrong argument, an unknown key or name."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting or a config field that cannot be, alone or beside another one."""


class DataError(SeedbedError):
    """A corpus that cannot be read or holds nothing to learn from."""


class BundleError(SeedbedError):
    """A model's folder or file that is missing, damaged or contradicts itself."""


class CheckpointError(SeedbedError):
    """A checkpoint or run folder that cannot be resumed."""


class HardwareError(SeedbedError):
    """Not enough memory, disk or devices for what was asked."""


class TrainingError(SeedbedError):
    """A training that went wrong in its numbers: loss or gradients that are not finite."""


class TargetNotMet(SeedbedError):
    """All went well and the target was not reached."""

    exit_code = 3


class StoppedEarly(SeedbedError):
    """A signal or a budget stopped the work; all is saved, and the same command goes on."""

    exit_code = 75


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The hint that ends a message about an unknown name: the nearest allowed one, and all of them."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"
