"""Answers on disk: lines of JSON in whole chunks, so that a process that was killed can be continued."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from seedbed.base.errors import UsageError
from seedbed.base.files import disk_errors, sync, write_file

Item = TypeVar("Item")


class Journal:
    """A file of lines that is written aside, a chunk at a time, and renamed once it is whole.

    `identity` says of what the lines are: a file aside that is of something else begins anew. What a killed
    process left of a chunk is removed, so that chunks are always the same records.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, chunk: int) -> None:
        self.path, self.chunk = path, chunk
        self._aside = path.with_name(path.name + ".part")
        self._about = path.with_name(path.name + ".part.json")
        self._identity = json.loads(json.dumps(dict(identity), default=str))
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.is_whole = self._is_whole()
            self.num_done = sum(1 for _ in self.lines()) if self.is_whole else self._kept_lines()

    def _is_same(self) -> bool:
        """Whether an earlier process wrote about the same."""
        try:
            return bool(json.loads(self._about.read_bytes()) == self._identity)
        except (OSError, ValueError):
            return False

    def _is_whole(self) -> bool:
        """Whether an earlier process finished the file, and did not remove what says of what it is."""
        return self.path.is_file() and not self._aside.exists() and self._is_same()

    def _kept_lines(self) -> int:
        """The lines of the whole chunks that an earlier process wrote; a new file has none."""
        if not self._is_same() or not self._aside.exists():
            self._aside.unlink(missing_ok=True)
            write_file(self._about, json.dumps(self._identity, ensure_ascii=False).encode())
            self._aside.touch()
            return 0
        kept = kept_bytes = number = num_bytes = 0
        with self._aside.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                number, num_bytes = number + 1, num_bytes + len(line)
                if number % self.chunk == 0:
                    kept, kept_bytes = number, num_bytes
        os.truncate(self._aside, kept_bytes)
        return kept

    def append(self, lines: Iterable[str]) -> None:
        """Write the lines of the next chunk. Errors: HardwareError for an OSError."""
        with disk_errors(self.path):
            with self._aside.open("a", encoding="utf-8", newline="\n") as file:
                file.write("".join(f"{line}\n" for line in lines))
            sync(self._aside)

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines so far, or all of a file that is whole."""
        with (self._aside if self._aside.exists() else self.path).open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def finish(self) -> None:
        """Give the file its name."""
        if not self.is_whole:
            with disk_errors(self.path):
                self._aside.replace(self.path)
                sync(self.path.parent)
            self.is_whole = True

    def forget(self) -> None:
        """Remove what says of what the file is: the next journal of it begins anew."""
        with disk_errors(self.path):
            self._about.unlink(missing_ok=True)


def json_line(fields: Mapping[str, Any]) -> str:
    """Fields as JSON in one line; halves of characters, which UTF-8 cannot write, stay escaped."""
    line = json.dumps({**fields}, ensure_ascii=False, default=str)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps({**fields}, default=str)
    return line


def require_absent(path: Path, *, force: bool) -> None:
    """Refuse with a UsageError a file that exists, unless it may be replaced."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file")
    if path.exists() and not force:
        raise UsageError(f"{path} exists; give another name, or --force to replace it")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one with the rest."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
