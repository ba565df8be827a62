"""A second copy of a run's small files: a damaged one is found by two votes of three, named and restored."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from seedbed.base.errors import CheckpointError
from seedbed.base.files import (
    DAMAGED,
    MANIFEST,
    PART,
    disk_errors,
    read_manifest,
    write_file,
    write_manifest,
)

# What decides a run or is shown of it, and is not rewritten while it trains.
SMALL_FILES = ("settings.toml", "plan.json", "examples.json", "tokenizer/**/*")
MEASURED = "measured"  # what plan.json gets at the end of the run, beside the plan


class _Votes(NamedTuple):
    """The SHA-256 of a file as it is, of its copy, and as the manifest has it; None where there is none."""

    file: str | None
    copy: str | None
    manifest: str | None

    @property
    def true(self) -> str | None:
        """What two of three agree on."""
        return next((vote for vote in self if vote is not None and self.count(vote) > 1), None)


class Copies:
    """The folder `.copies` in a run's own, with SMALL_FILES as they were when the training began."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / ".copies"

    def write(self) -> None:
        """Copy the files as they are now, in place of earlier copies."""
        aside = self.folder.with_name(self.folder.name + PART)
        with disk_errors(self.folder):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            for pattern in SMALL_FILES:
                for file in self.run.glob(pattern):
                    if not file.is_file() or file.suffix == DAMAGED:
                        continue
                    copy = aside / file.relative_to(self.run)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(_content(file))
            write_manifest(aside)
            shutil.rmtree(self.folder, ignore_errors=True)
            aside.rename(self.folder)

    def problems(self) -> list[str]:
        """What is damaged or changed, in a few words each."""
        return _problems(self._votes())

    def restore(self) -> list[str]:
        """Put right what is damaged or changed -> what that was.

        A file that differs is kept beside the restored one, with `.damaged` added to its name. Errors:
        CheckpointError where a file cannot be restored, HardwareError.
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
    """What is wrong with a file, its copy or the manifest."""
    if votes.true is None:
        return f"{name} and its copy are both damaged"
    if votes.file is None:
        return f"{name} is missing"
    if votes.file != votes.true:
        return f"{name} is damaged or was changed after the training began"
    return f".copies/{name if votes.copy != votes.true else MANIFEST} is damaged"


def _content(file: Path) -> bytes:
    """What a file holds; of a plan without what was measured later."""
    content = file.read_bytes()
    if file.name == "plan.json":
        try:
            plan = {key: value for key, value in json.loads(content).items() if key != MEASURED}
        except (ValueError, AttributeError, RecursionError):
            return content  # it is damaged
        return json.dumps(plan, indent=2).encode()
    return content


def _digest(file: Path) -> str | None:
    """The SHA-256 of a file's content; None where it cannot be read."""
    try:
        return hashlib.sha256(_content(file)).hexdigest()
    except OSError:
        return None
