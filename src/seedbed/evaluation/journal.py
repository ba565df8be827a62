"""Answers on disk: lines of JSON in whole chunks, so that a process that was killed can be continued."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.base.files import disk_errors, sync, try_lock, write_file

Item = TypeVar("Item")
ABOUT = {"identity", "num_lines", "num_bytes", "sha256", "is_whole"}  # the fields of X.part.json


class Journal:
    """A file of lines that is written aside, a chunk at a time, and renamed once it is whole.

    `identity` says of what the lines are. A small file beside it has the identity, and size and SHA-256 of
    what is written: an interrupted file of the same identity is continued behind its last whole chunk, any
    other, or a damaged one, begins anew. One process at a time writes it. Errors: UsageError for a file of
    another process, or one with the names of these that is something else.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._aside, self._about = (path.with_name(f"{path.name}.part{end}") for end in ("", ".json"))
        self._identity = json.loads(json.dumps(dict(identity), default=str))
        self._digest, self._num_bytes, self.num_done = hashlib.sha256(), 0, 0
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = _locked(path.with_name(f"{path.name}.part.lock"), path)
            try:
                self.is_whole = self._open()
            except BaseException:
                self.close()
                raise

    def _open(self) -> bool:
        """Continue or begin the file; whether an earlier process finished it and did not forget it."""
        about: Any = None
        with suppress(OSError, ValueError):
            about = json.loads(self._about.read_bytes())
        if (self._aside.exists() or self._about.exists()) and not (
            isinstance(about, dict) and {*about} == ABOUT
        ):
            raise UsageError(
                f"{self._aside} or {self._about.name} beside it is not what an interrupted command left; "
                "move them, or give another name"
            )
        same = about is not None and about["identity"] == self._identity
        if same and about["num_lines"]:
            file = self.path if about["is_whole"] and not self._aside.exists() else self._aside
            if self._continue(file, about):
                return file == self.path
        self._digest, self._num_bytes, self.num_done = hashlib.sha256(), 0, 0
        self._write_about()
        self._aside.write_bytes(b"")
        return False

    def _continue(self, file: Path, about: Mapping[str, Any]) -> bool:
        """Read what a file has; False where it is not what was written."""
        left, digest = about["num_bytes"], hashlib.sha256()
        with suppress(OSError), file.open("rb") as lines:
            if file == self.path and file.stat().st_size != left:
                left = 0
            while left and (part := lines.read(min(left, 1 << 20))):
                digest.update(part)
                left -= len(part)
            if not left and digest.hexdigest() == about["sha256"]:
                if file == self._aside:
                    os.truncate(file, about["num_bytes"])
                self._digest, self._num_bytes = digest, about["num_bytes"]
                self.num_done = about["num_lines"]
                return True
        warnings.warn(f"{file} is damaged or missing; its answers begin anew", SeedbedWarning, stacklevel=4)
        return False

    def _write_about(self, *, is_whole: bool = False) -> None:
        about = {"identity": self._identity, "num_lines": self.num_done, "num_bytes": self._num_bytes}
        about |= {"sha256": self._digest.hexdigest(), "is_whole": is_whole}
        write_file(self._about, json.dumps(about, ensure_ascii=False).encode())

    def append(self, lines: Iterable[str]) -> None:
        """Write the lines of the next chunk. Errors: HardwareError for an OSError."""
        content = [f"{line}\n".encode() for line in lines]
        with disk_errors(self.path):
            with self._aside.open("ab") as file:
                file.writelines(content)
            sync(self._aside)
            for line in content:
                self._digest.update(line)
            self._num_bytes += sum(map(len, content))
            self.num_done += len(content)
            self._write_about()

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines so far, or all of a file that is whole."""
        with (self.path if self.is_whole else self._aside).open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def finish(self) -> None:
        """Give the file its name."""
        if not self.is_whole:
            with disk_errors(self.path):
                self._write_about(is_whole=True)
                self._aside.replace(self.path)
                sync(self.path.parent)
            self.is_whole = True

    def forget(self) -> None:
        """Remove what says of what the file is: the next journal of it begins anew."""
        with disk_errors(self.path):
            self._about.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let another process write the file."""
        if self._lock is not None:
            with suppress(OSError):
                self.path.with_name(f"{self.path.name}.part.lock").unlink()
            os.close(self._lock)
            self._lock = None


def _locked(file: Path, path: Path) -> int:
    """The descriptor of a lock of this process. Errors: UsageError where another one has it."""
    while True:
        lock, is_ours = try_lock(file)
        if not is_ours:
            os.close(lock)
            raise UsageError(f"{path} is being written by another process; wait for it, or give another name")
        with suppress(FileNotFoundError):
            if os.stat(file).st_ino == os.fstat(lock).st_ino:  # else it was removed in between
                return lock
        os.close(lock)


def json_line(fields: Mapping[str, Any]) -> str:
    """Fields as JSON in one line; halves of characters stay escaped, numbers that are not finite are null."""
    try:
        line = json.dumps({**fields}, ensure_ascii=False, default=str, allow_nan=False)
        line.encode()
    except ValueError:  # JSON has no such numbers, UTF-8 no such characters
        return json.dumps(_finite({**fields}), default=str)
    return line


def _finite(value: Any) -> Any:
    """A value with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
