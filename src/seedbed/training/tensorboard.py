"""Metrics for TensorBoard; the extra `track`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seedbed.base.errors import UsageError


class TensorBoard:
    """A callback that writes every number of a line, as `step/loss`, `evaluation/loss` and so on."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "TensorBoard is not installed; install seedbed with its extra: pip install 'seedbed[track]'"
            ) from None
        self._open = SummaryWriter
        self.folder = folder

    def begin(self, step: int, num_steps: int) -> None:
        """Open the event file; entries of an earlier process about later steps are hidden."""
        self._writer = self._open(str(self.folder), purge_step=step + 1)

    def record(self, line: Mapping[str, Any]) -> None:
        """Write the line's numbers."""
        for name, value in line.items():
            if line["kind"] != "resume" and name not in ("kind", "step") and isinstance(value, int | float):
                self._writer.add_scalar(f"{line['kind']}/{name}", value, line["step"])

    def end(self) -> None:
        """Flush and close the file."""
        self._writer.close()
