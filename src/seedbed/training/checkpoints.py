"""Checkpoints: written aside, synced, renamed, each file's SHA-256 in a manifest; no pickles."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seedbed.base.errors import CheckpointError, TrainingError
from seedbed.base.files import (
    DAMAGED,
    disk_error,
    disk_errors,
    manifest_problem,
    replaced_folder,
    write_manifest,
)
from seedbed.training.metrics import gone

Tensors = Mapping[str, Tensor]
STATE, BEST = "state.json", "best-"
PARTIAL, EARLIER = ".partial", ".old.partial"  # endings of folders that a crash may leave
# All that may be renamed or deleted there: what else is in the folder is the user's.
OWN = re.compile(rf"(?:{BEST})?\d{{6,}}(?:{re.escape(DAMAGED)}|{re.escape(EARLIER)}|{re.escape(PARTIAL)})*")


@dataclass(frozen=True)
class Checkpoint:
    """An undamaged checkpoint: its folder, the step after which it was written, and its state."""

    path: Path
    step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of `name`.safetensors."""
        return load_file(self.path / f"{name}.safetensors")


class Checkpoints:
    """The folder `checkpoints/`: `<step>` resumes a run, `best-<step>` has the best weights on validation.

    Only one process may write at a time, which the lock of the run folder ensures.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """The steps after which there is a checkpoint, damaged or not, in order."""
        return sorted(int(path.name) for path in self._paths() if path.name.isdigit())

    def save(self, step: int, tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        """Write a checkpoint, then delete the oldest beyond `keep`, and damaged ones.

        Errors: TrainingError for tensors that are not finite, before any healthy checkpoint is deleted.
        """
        for content in tensors.values():
            require_finite(content, f"the checkpoint of step {step} was not written")
        self._write(f"{step:06d}", tensors, state)
        kept = [f"{kept_step:06d}" for kept_step in self.steps()[-self.keep :]]
        for path in self._paths():
            if path.name not in kept and not path.name.startswith(BEST):
                self._delete(path)

    def save_best(self, step: int, weights: Tensors, state: Mapping[str, Any]) -> None:
        """Write the best weights on validation so far, then delete the previous ones."""
        require_finite(weights, f"the best weights of step {step} were not written")
        self._write(f"{BEST}{step:06d}", {"weights": weights}, state)
        for path in self._best_paths()[:-1]:
            self._delete(path)

    def at(self, step: int) -> Checkpoint:
        """The checkpoint written after `step`, which the caller has verified."""
        path = self.folder / f"{step:06d}"
        return Checkpoint(path, step, json.loads((path / STATE).read_bytes()))

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest undamaged checkpoint, and the problems of those after it, which are renamed.

        None without checkpoints. Errors: CheckpointError if all are damaged.
        """
        problems: list[str] = []
        damaged: list[Path] = []
        for step in reversed(self.steps()):
            path = self.folder / f"{step:06d}"
            problem = verify(path)
            if not problem:
                for other in damaged:
                    self._delete(other.with_name(other.name + DAMAGED))
                    other.rename(other.with_name(other.name + DAMAGED))
                return self.at(step), problems
            problems.append(problem)
            damaged.append(path)
        if problems:
            raise CheckpointError(
                f"every checkpoint in {self.folder} is damaged: {'; '.join(problems)}; restore one from a "
                "backup, delete the folder to start at step 0, or choose another run folder"
            )
        return None, []

    def problem(self, step: int) -> str:
        """The problem of the checkpoint written after `step`; empty if there is none."""
        return verify(self.folder / f"{step:06d}")

    def recover_best(self, step: int, loss: float | None) -> None:
        """Write damaged best weights of `step` again from the checkpoint of that step.

        Damaged ones of a later step are left alone, because the resumed run writes them again. Errors:
        CheckpointError if no undamaged checkpoint has them, since the run would end with other weights.
        """
        path = self.folder / f"{BEST}{step:06d}"
        if not path.exists():
            return
        if step not in self.steps() or self.problem(step):
            raise CheckpointError(
                f"the best weights so far are lost: {verify(path)}; restore {path} from a backup, or delete "
                "it to resume without them"
            )
        checkpoint = self.at(step)
        state = {"loss": loss, "frozen": checkpoint.state.get("frozen", {})}
        self.save_best(step, checkpoint.tensors("weights"), state)

    def best(self) -> tuple[Checkpoint | None, list[str]]:
        """The best weights on validation, and the problems of damaged ones."""
        problems: list[str] = []
        for path in reversed(self._best_paths()):
            problem = verify(path)
            if not problem:
                step = int(path.name.removeprefix(BEST))
                return Checkpoint(path, step, json.loads((path / STATE).read_bytes())), problems
            problems.append(problem)
        return None, problems

    def clean(self, *, keep_best: bool) -> None:
        """Delete partial folders that a crash left, and unless `keep_best` the best weights."""
        for path in self._paths():
            if path.name.endswith(PARTIAL) or (path.name.startswith(BEST) and not keep_best):
                self._delete(path)

    def _paths(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.is_dir() else []
        return [p for p in found if OWN.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]

    def _best_paths(self) -> list[Path]:
        names = [p for p in self._paths() if re.fullmatch(rf"{BEST}\d+", p.name)]
        return sorted(names, key=lambda path: int(path.name.removeprefix(BEST)))

    def _write(self, name: str, tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        final = self.folder / name
        if not self.folder.parent.is_dir():
            raise gone(self.folder.parent)
        with (
            replaced_folder(final, partial=PARTIAL, earlier=EARLIER) as aside,
            disk_errors(final),
        ):
            for file, content in tensors.items():
                save_tensors(aside / f"{file}.safetensors", content)
            (aside / STATE).write_text(json.dumps(state, indent=1))
            write_manifest(aside)

    def _delete(self, path: Path) -> None:
        """Delete a folder after renaming it, so that a crash leaves no folder that looks complete."""
        if not path.exists():
            return
        renamed = path if path.name.endswith(PARTIAL) else path.with_name(path.name + EARLIER)
        with disk_errors(path):
            path.rename(renamed)
            shutil.rmtree(renamed)


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file; a full disk raises HardwareError."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise disk_error(path, int(number[1])) from error


def verify(path: Path) -> str:
    """The problem of a checkpoint's folder, in a few words; empty if there is none."""
    problem = manifest_problem(path)
    return f"{path.name} is damaged: {problem}" if problem else ""


def require_finite(tensors: Tensors, consequence: str) -> None:
    """Raise TrainingError naming the tensors with values that are not finite."""
    floating = {name: t for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    peaks = torch._foreach_norm(list(floating.values()), float("inf")) if floating else []
    broken = [name for name, peak in zip(floating, peaks, strict=True) if not math.isfinite(peak.item())]
    if broken:
        raise TrainingError(f"not finite: {first_names(broken)}; {consequence}, the ones before it are kept")


def first_names(names: list[str]) -> str:
    """The first few of many names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
