"""The folder of a run: its lock, its settings, and a copy that repairs its small files (DESIGN.md, 7)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.base.errors import CheckpointError, SeedbedError, SeedbedWarning, StoppedEarly
from seedbed.base.files import (
    DAMAGED,
    MANIFEST,
    PART,
    disk_errors,
    manifest_problem,
    open_regular,
    read_manifest,
    replaced_folder,
    try_lock,
    write_file,
    write_manifest,
)
from seedbed.base.settings import change_text, difference, read_toml, to_toml
from seedbed.data.prepare import shards_folder, shards_of
from seedbed.training.checkpoints import Checkpoints
from seedbed.training.decisions import DECISIONS
from seedbed.training.metrics import metrics_problem

# Files that are not rewritten while a run trains.
SMALL_FILES = ("settings.toml", "plan.json", "data.json", "examples.json", "tokenizer/**/*")
MEASURED = "measured"  # the key that plan.json gets at the end of the run
# Settings that name a file or a folder; its content has a fingerprint of its own.
PATHS = ("data.train", "data.validation", "model.base", "tokenizer.path")
TIMED = ".timed-"  # prefix of a checkpoint that the planner writes to time it


class RunFolder:
    """One training on disk; as a context it is locked for other processes.

    `writable` is False on all ranks but the main one, which take no lock and write nothing.
    """

    def __init__(self, path: str | Path, *, writable: bool = True, keep_checkpoints: int = 2) -> None:
        self.path, self.writable = Path(path), writable
        self.settings_path, self.plan_path = self.path / "settings.toml", self.path / "plan.json"
        self.metrics_json_path = self.path / "metrics.json"  # at the end
        self.metrics_path, self.report_path = self.path / "metrics.jsonl", self.path / "report.html"
        self.model_path, self.adapter_path = self.path / "model", self.path / "adapter"
        self.checkpoints = Checkpoints(self.path / "checkpoints", keep=keep_checkpoints)
        self.copies = Copies(self.path)
        self.problems: list[str] = []  # of damaged files, which are restored
        self._lock: int | None = None
        self._made: list[Path] = []  # folders that did not exist before

    def __enter__(self) -> RunFolder:
        """Lock the folder, delete partial files of a crash, and restore damaged files with a warning."""
        if not self.writable:
            return self
        with disk_errors(self.path):
            self._made = [each for each in (self.path, *self.path.parents) if not each.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            lock, is_ours = try_lock(self.path / ".lock")
        if not is_ours:
            owner = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
            os.close(lock)
            raise CheckpointError(
                f"{self.path} is in use by process {owner}, and one process may train in a run folder; "
                "wait for it, stop it, or choose another folder"
            )
        with disk_errors(self.path / ".lock"):
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock
        try:
            self.checkpoints.clean(keep_best=self.can_resume)
            if not self.can_resume:
                (self.path / DECISIONS).unlink(missing_ok=True)  # about steps that no checkpoint has
            for timed in self.path.glob(f"{TIMED}*"):  # of a planner that was killed
                shutil.rmtree(timed, ignore_errors=True)
            self.problems = self.copies.restore() if self.can_resume else []
            for problem in self.problems:
                warnings.warn(f"{self.path}: {problem}; it is restored", SeedbedWarning, stacklevel=2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            os.close(self._lock)  # which unlocks
            self._lock = None
            why = error[1] if error else None
            refused = isinstance(why, SeedbedError) and not isinstance(why, StoppedEarly)
            if refused and self.path in self._made and not self.settings_path.exists():
                self._remove()
            elif [path.name for path in self.path.iterdir()] == [".lock"]:  # of a run that was refused
                with suppress(OSError):
                    (self.path / ".lock").unlink()
                    for folder in self._made:
                        folder.rmdir()

    def _remove(self) -> None:
        """Remove the folder of a refused run, and the shards where nothing else is beside it."""
        shutil.rmtree(self.path, ignore_errors=True)
        around, shards = self.path.parent, shards_folder(self.path)
        with suppress(OSError):
            if around in self._made and [each.name for each in around.iterdir()] == [shards.name]:
                shutil.rmtree(shards)
            for folder in self._made[1:]:
                folder.rmdir()

    @property
    def can_resume(self) -> bool:
        """Whether there is a checkpoint, with which the settings must agree."""
        return bool(self.checkpoints.steps())

    def saved_settings(self) -> dict[str, Any] | None:
        """The content of `settings.toml` for a run that can resume, None for a new one."""
        return read_toml(self.settings_path) if self.can_resume and self.settings_path.exists() else None

    def plan_file(self) -> dict[str, Any]:
        """The content of `plan.json`; empty if it is missing or damaged."""
        try:
            found = json.loads(self.plan_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def settle(self, settings: Any) -> None:
        """Write the settings (a dataclass) of a new run; CheckpointError if a resumed one has others."""
        saved = self.saved_settings()
        if saved is not None:
            self.refuse_difference(saved, settings)
        elif self.writable:
            write_file(self.settings_path, to_toml(settings).encode())

    def refuse_difference(self, saved: Any, now: Any) -> None:
        """Raise CheckpointError with the differences between the settings of the run and those `now`."""
        if different := difference(saved, now, paths=PATHS):
            listed = "; ".join(f"{key} {change_text(*pair)}" for key, pair in different.items())
            resume = (
                f", or run `seedbed resume {self.path}`, which needs no settings, and trains longer with "
                "--steps N or --budget TIME"
            )
            raise CheckpointError(
                f"{self.path} cannot resume with other settings or data: {listed}; undo the change, or "
                f"choose another folder for a new run{'' if 'data.content' in different else resume}"
            )


def damaged_files(path: Path) -> list[str]:
    """The problems of the small files and metrics of a run; nothing is restored."""
    return [*Copies(path).problems(), *filter(None, [metrics_problem(path / "metrics.jsonl")])]


def damaged_shards(path: Path) -> list[str]:
    """The problems of the shards of a run's newest undamaged checkpoint; all of their bytes are read."""
    checkpoints = Checkpoints(path / "checkpoints")
    undamaged = (step for step in reversed(checkpoints.steps()) if not checkpoints.problem(step))
    for step in undamaged:
        content = checkpoints.at(step).state["fingerprints"].get("content", "")
        shards = shards_of(shards_folder(path), content)
        problem = manifest_problem(shards) if content and shards.exists() else ""
        return [f"{shards}: {problem}; the run makes it again"] if problem else []
    return []


class _Votes(NamedTuple):
    """The SHA-256 of a file, of its copy, and in the manifest of the copies; None if missing."""

    file: str | None
    copy: str | None
    manifest: str | None

    @property
    def true(self) -> str | None:
        """The SHA-256 that two of the three agree on."""
        return next((vote for vote in self if vote is not None and self.count(vote) > 1), None)


class Copies:
    """The folder `.copies` of a run, with SMALL_FILES as they were when the training began.

    A damaged file is found by two votes of three, and restored.
    """

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / ".copies"

    def write(self) -> None:
        """Copy the files as they are now, and replace earlier copies."""
        with (
            replaced_folder(self.folder, partial=PART, earlier=f".old{PART}") as aside,
            disk_errors(self.folder),
        ):
            for file in (file for pattern in SMALL_FILES for file in self.run.glob(pattern)):
                if file.is_file() and file.suffix != DAMAGED:
                    copy = aside / file.relative_to(self.run)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(_content(file))
            write_manifest(aside)

    def problems(self) -> list[str]:
        """The damaged or changed files, in a few words each."""
        return _problems(self._votes())

    def restore(self) -> list[str]:
        """Restore damaged or changed files -> their problems.

        The damaged file is kept with `.damaged` added to its name. Errors: CheckpointError if a file cannot
        be restored; HardwareError.
        """
        found = self._votes()
        problems = _problems(found)
        for name, votes in found.items():
            file, copy = self.run / name, self.folder / name
            if votes.true is None:
                raise CheckpointError(
                    f"{file} and its copy {copy} are both damaged; restore one of them from a backup, or "
                    "choose another folder for a new run"
                )
            with disk_errors(file):
                if votes.file != votes.true:
                    if file.exists():
                        file.replace(file.with_name(file.name + DAMAGED))
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_file(file, copy.read_bytes())
                if votes.copy != votes.true:
                    write_file(copy, _content(file))
        if problems:
            with disk_errors(self.folder):
                write_manifest(self.folder)
        return problems

    def _votes(self) -> dict[str, _Votes]:
        try:
            manifest = read_manifest(self.folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            manifest = {}
        copied = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = [name for path in copied if (name := path.relative_to(self.folder).as_posix()) != MANIFEST]
        return {
            name: _Votes(_digest(self.run / name), _digest(self.folder / name), manifest.get(name))
            for name in names
        }


def _problems(found: dict[str, _Votes]) -> list[str]:
    return [_problem(name, votes) for name, votes in found.items() if len({*votes}) > 1]


def _problem(name: str, votes: _Votes) -> str:
    """The problem of a file, its copy or the manifest."""
    if votes.true is None:
        return f"{name} and its copy are both damaged"
    if votes.file is None:
        return f"{name} is missing"
    if votes.file != votes.true:
        return f"{name} is damaged or was changed after the training began"
    return f".copies/{name if votes.copy != votes.true else MANIFEST} is damaged"


def _content(file: Path) -> bytes:
    """The content of a file; for a plan, without the measured values that are added at the end."""
    with open_regular(file) as opened:
        content = opened.read()
    if file.name == "plan.json":
        try:
            plan = {key: value for key, value in json.loads(content).items() if key != MEASURED}
        except (ValueError, AttributeError, RecursionError):
            return content  # damaged
        return json.dumps(plan, indent=2).encode()
    return content


def _digest(file: Path) -> str | None:
    """The SHA-256 of a file's content; None if it cannot be read."""
    try:
        return hashlib.sha256(_content(file)).hexdigest()
    except OSError:
        return None
