"""The metrics of a run: one JSON line per step or evaluation, appended and never rewritten."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seedbed.base.errors import CheckpointError
from seedbed.base.files import disk_errors

_CRC32 = re.compile(rb', "crc32": (\d+)}$')


class MetricsFile:
    """Appends lines to `metrics.jsonl`, each with one write: a kill truncates at most the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            self._file = path.open("a+b", buffering=0)
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":  # a crash truncated the last line
                    self._file.write(b"\n")

    def begin(self, step: int, num_steps: int) -> None:
        """Do nothing: a resume has a line of its own."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Write one line that ends with its CRC-32; a full disk raises HardwareError."""
        body = json.dumps(line).encode()[:-1]
        content = body + b', "crc32": %d}\n' % zlib.crc32(body)
        with disk_errors(self.path):
            while content:
                content = content[self._file.write(content) :]
            if not self._is_in_place():
                raise gone(self.path.parent)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def end(self) -> None:
        """Close the file."""
        self._file.close()


def gone(run: Path) -> CheckpointError:
    """The error of a run whose folder is not in its place any more."""
    return CheckpointError(
        f"{run} was deleted or renamed while the run trained, so nothing more can be saved there; run the "
        "command again, or resume the run where it is now"
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the valid lines in order; for a step that a resumed run repeated, the last version.

    Truncated or damaged lines are left out. `{"kind": "resume", "step": i}` means that the run resumed after
    step i: earlier lines about later steps are dropped.
    """
    lines: list[dict[str, Any]] = []
    for line in valid_lines(path):
        if line["kind"] == "resume":
            # Without a checkpoint the evaluation before step 1 is repeated.
            at = line["step"] or -1
            lines = [earlier for earlier in lines if earlier["step"] <= at]
        lines.append(line)
    return lines


def valid_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines as they were written, without truncated or damaged ones."""
    return (line for line in _lines(path) if line is not None)


def metrics_problem(path: Path) -> str:
    """The truncated or damaged lines of a metrics file, in a few words; empty if there are none."""
    found = [number for number, line in enumerate(_lines(path), 1) if line is None] if path.exists() else []
    which = f"{len(found)} lines" if len(found) > 1 else "1 line"
    return f"{path.name}: {which} cut or damaged and left out, the first is line {found[0]}" if found else ""


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """Each line, None if truncated or different from its CRC-32, which legacy files lack."""
    content = path.read_bytes()
    for text in content.removesuffix(b"\n").split(b"\n") if content else ():
        body, crc32 = (text, b"") if (end := _CRC32.search(text)) is None else (text[: end.start()], end[1])
        try:
            line = json.loads(body + b"}" if crc32 else body)
        except (ValueError, RecursionError):
            line = None
        right = isinstance(line, dict) and {"kind", "step"} <= line.keys()
        yield line if right and (not crc32 or int(crc32) == zlib.crc32(body)) else None
