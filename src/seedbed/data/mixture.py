"""A mixture of tasks: each file of the training folder, or each folder directly in it, with a weight."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError
from seedbed.base.files import disk_errors, write_file
from seedbed.data.files import source_files
from seedbed.data.forms import LearnsFrom
from seedbed.data.settings import DataSettings

NAMES, NUMBERS = "groups.json", "groups.npy"  # beside the shards


def group_of(file: str | Path, folder: str | Path) -> str:
    """The task that a file of the training folder belongs to: the folder directly in it, or the file."""
    return Path(file).relative_to(Path(folder)).parts[0]


def mixture_weights(counts: Sequence[int], settings: DataSettings) -> list[float]:
    """The weight of each task by the number of its records, at most `mixture_limit` of which count.

    With the temperature T, min(number, limit) ** (1 / T) (Raffel et al. 1910.10683, section 3.5.2; the limit
    of Wei et al. 2109.01652, section 2.3, is 3,000).
    """
    limit, temperature = settings.mixture_limit, settings.mixture_temperature or 1.0
    capped = [count if limit is None else min(count, limit) for count in counts]
    return [float(count ** (1 / temperature)) if count else 0.0 for count in capped]


def require_tasks(settings: DataSettings, learns_from: LearnsFrom) -> None:
    """Refuse with a ConfigError a mixture of what has not several tasks."""
    if not settings.mixes:
        return
    keys = "data.mixture_temperature and data.mixture_limit"
    if learns_from == "text":
        raise ConfigError(
            f"{keys} weigh tasks by their records, and this objective learns from text, which has none; "
            "leave them out, or give labelled records"
        )
    if not Path(settings.train).is_dir():
        raise ConfigError(
            f"{keys} weigh the files or folders of a folder, and {settings.train} is not a folder; leave "
            "them out, or give a folder with one file for each task"
        )
    files = source_files(settings.train, include=settings.include, exclude=settings.exclude)
    if len(names := {group_of(file, settings.train) for file in files}) < 2:
        raise ConfigError(
            f"{keys} weigh several tasks, and {settings.train} has one, {min(names)}; leave them out, or "
            "give a folder with one file for each task"
        )


class Groups:
    """The task of each training record, by its file, in the order in which records are written."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._names: dict[str, int] = {}
        self._numbers = array("i")

    def add(self, file: str) -> None:
        """Add the next record."""
        self._numbers.append(self._names.setdefault(group_of(file, self._folder), len(self._names)))

    def write(self, folder: Path) -> None:
        """Write the names of the tasks, and a number of one for each record."""
        write_file(folder / NAMES, json.dumps(list(self._names), ensure_ascii=False).encode())
        with disk_errors(folder):
            np.save(folder / NUMBERS, np.asarray(self._numbers, dtype="<i4"), allow_pickle=False)


def read_groups(folder: Path) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The names of the tasks, and the number of that of each training record (num_records,)."""
    names = tuple(json.loads((folder / NAMES).read_bytes()))
    return names, np.load(folder / NUMBERS, allow_pickle=False)
