"""A run's numbers: one JSON line a step or evaluation, appended and never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seedbed.base.files import disk_errors


class MetricsFile:
    """Appends lines to `metrics.jsonl`, each with one write: a kill loses none and cuts at most the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            self._file = path.open("a+b", buffering=0)
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":  # a crash cut the last line
                    self._file.write(b"\n")

    def begin(self, step: int, num_steps: int) -> None:
        """Nothing has to be written for that."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Write one line; a full disk raises HardwareError."""
        content = json.dumps(line).encode() + b"\n"
        with disk_errors(self.path):
            while content:
                content = content[self._file.write(content) :]

    def end(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines that count, in order: of a step that a resumed run did again the last version.

    A line that a crash cut is left out. `{"kind": "resume", "step": i}` says that the run went on after
    step i, so what stands above it about later steps is superseded by what follows.
    """
    lines: list[dict[str, Any]] = []
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["kind"] == "resume":
            lines = [earlier for earlier in lines if earlier["step"] <= line["step"]]
        lines.append(line)
    return lines
