"""What lies in a run's folder: whatever is missing or damaged becomes a notice, never an error."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from seedbed.base.settings import flatten
from seedbed.report.scales import Values
from seedbed.report.units import number
from seedbed.training.metrics import read_metrics
from seedbed.training.run_folder import damaged_files

Read = TypeVar("Read")
BITS = "bits per byte"
NATS = "nats per token"
EXAMPLES = "examples.json"
_COLUMNS = ("step", "tokens", "seconds", "loss", "bits_per_byte", "tokens_per_second", "peak_fraction")


@dataclass(frozen=True)
class Score:
    """The loss on held-out text after a step, in the unit of the report."""

    value: float
    step: int
    tokens: float
    seconds: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class RunFiles:
    """A run as its files tell it.

    `steps` and `evaluations` hold a column (num_lines,) for each quantity, NaN where a line lacks it. Steps
    without a finite loss are not in them: `not_finite` is their number and the first of them.
    """

    folder: Path
    title: str
    settings: Mapping[str, Any]
    plan: Mapping[str, Any]
    steps: Mapping[str, Values]
    evaluations: Mapping[str, Values]
    not_finite: tuple[int, int]
    card: str
    notices: tuple[str, ...]
    examples: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The folder's own name, by which samples refer to the run."""
        return self.folder.resolve().name

    @property
    def num_steps(self) -> int | None:
        """The steps that the settings ask for."""
        value = number(self.settings.get("training.num_steps"))
        return None if value is None else int(value)

    @property
    def last_step(self) -> int:
        """The last step that the metrics tell of; 0 before the first."""
        return int(_last(self.steps["step"], self.evaluations["step"]) or 0)

    @property
    def finished(self) -> bool:
        """Whether the run did all its steps."""
        return bool(self.plan.get("measured")) or (
            self.num_steps is not None and self.last_step >= self.num_steps
        )

    @property
    def tokens(self) -> float | None:
        """The tokens trained on so far."""
        return _last(self.steps["tokens"], self.evaluations["tokens"])

    @property
    def seconds(self) -> float | None:
        """The seconds that training took: measured at the end, or counted so far."""
        measured = self.measured("seconds")
        return measured if measured is not None else _last(self.steps["seconds"], self.evaluations["seconds"])

    def planned(self, key: str) -> float | None:
        """A quantity of the plan."""
        return number(self.plan.get(key))

    def measured(self, key: str) -> float | None:
        """A quantity of the plan as the run measured it at its end."""
        at_end = self.plan.get("measured")
        return number(at_end.get(key)) if isinstance(at_end, Mapping) else None

    def ratio(self, key: str) -> float | None:
        """How many times its plan a measured quantity is."""
        planned, measured = self.planned(key), self.measured(key)
        return measured / planned if planned and measured is not None else None

    def unit(self) -> str:
        """The unit that the evaluations can be told in."""
        return BITS if len(self.evaluations["step"]) and not self._without_bits() else NATS

    def held_out(self, unit: str) -> Values:
        """The held-out loss of each evaluation, (num_evaluations,)."""
        return self.evaluations["bits_per_byte" if unit == BITS else "loss"]

    def training(self, unit: str) -> Values:
        """The training loss of each step, (num_steps,); bits by the held-out text's tokens per byte."""
        return self.steps["loss"] * (self.bits_per_nat if unit == BITS else 1.0)

    @property
    def bits_per_nat(self) -> float:
        """Bits per byte for each nat per token of the held-out text."""
        bits, loss = self.evaluations["bits_per_byte"], self.evaluations["loss"]
        return float(bits[-1] / loss[-1]) if len(loss) and loss[-1] > 0 else math.nan

    def score(self, unit: str, index: int | None = None) -> Score | None:
        """The best evaluation, which is the one that `model/` was kept from, or the one at an index."""
        values = self.held_out(unit)
        if not len(values):
            return None
        at = int(np.argmin(values)) if index is None else index
        low, high = self.evaluations["low"][at], self.evaluations["high"][at]
        interval = (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None
        column = {name: float(self.evaluations[name][at]) for name in ("step", "tokens", "seconds")}
        return Score(float(values[at]), int(column["step"]), column["tokens"], column["seconds"], interval)

    def _without_bits(self) -> bool:
        return bool(np.isnan(self.evaluations["bits_per_byte"]).any())


def is_run(folder: Path) -> bool:
    """Whether a folder holds anything that a run writes."""
    return any((folder / name).exists() for name in ("metrics.jsonl", "plan.json", "settings.toml"))


def read_run(folder: Path, title: str | None = None) -> RunFiles:
    """Read what a run's folder holds; what it lacks or what cannot be read is said in `notices`.

    `title` is what the page calls it, its folder's name by default.
    """
    notices: list[str] = []
    settings: Mapping[str, Any] = _try(folder / "settings.toml", _toml, notices, {})
    plan = read_json(folder / "plan.json", notices)
    lines: Sequence[Mapping[str, Any]] = _try(folder / "metrics.jsonl", read_metrics, notices, [])
    card = _try(folder / "model" / "README.md", _text, notices, "")
    examples: tuple[Mapping[str, Any], ...] = ()
    if (folder / EXAMPLES).exists():  # runs of before it was written have none
        examples = _try(folder / EXAMPLES, _examples, notices, ())
    notices += damaged_files(folder)
    steps, lost = _columns([line for line in lines if line.get("kind") == "step"])
    evaluations, _ = _columns([line for line in lines if line.get("kind") == "evaluation"])
    if lost:
        notices.append(f"the loss of {len(lost)} steps is not finite, the first at step {lost[0]}")
    return RunFiles(
        folder=folder,
        title=title or folder.resolve().name,
        settings=flatten(settings),
        plan=plan,
        steps=steps,
        evaluations=evaluations,
        not_finite=(len(lost), lost[0] if lost else 0),
        card=card,
        notices=tuple(notices),
        examples=examples,
    )


def read_json(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """Read a JSON object; an empty one, with a notice, where it is absent or damaged."""
    value: Any = _try(path, _json, notices, {})
    if not isinstance(value, dict):
        notices.append(f"{path.name} holds no JSON object")
        return {}
    return value


def _toml(path: Path) -> Mapping[str, Any]:
    return tomllib.loads(_text(path))


def _json(path: Path) -> Any:
    return json.loads(_text(path))


def _examples(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The examples of a run; KeyError, TypeError or ValueError where one is not as `Shown` writes it."""
    found = tuple(_json(path)["examples"])
    for example in found:
        pieces = [piece for side in ("reads", "writes") for piece in example[side]]
        texts = [piece[key] for piece in pieces for key in ("text", "kind", "role")]
        texts += [text for piece in pieces if (text := piece["answer"]) is not None]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a piece of an example has a text that is none")
        if not all(type(example[key]) is int for key in ("num_tokens", "num_targets")):
            raise ValueError("an example has a number of tokens that is none")
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _name(path: Path) -> str:
    """A file's place in a run's folder: only the card lies deeper."""
    return f"model/{path.name}" if path.parent.name == "model" else path.name


def _try(path: Path, read: Callable[[Path], Read], notices: list[str], otherwise: Read) -> Read:
    """Read a file, or say in a notice why not."""
    try:
        return read(path)
    except FileNotFoundError:
        notices.append(f"{_name(path)} is not there yet")
    except OSError as error:
        notices.append(f"{_name(path)} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        notices.append(f"{_name(path)} is damaged: {error}")
    return otherwise


def _columns(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Values], list[int]]:
    """The columns of lines that have a finite loss, and the steps of those that have none."""
    stepped = [line for line in lines if number(line.get("step")) is not None]
    good = [line for line in stepped if number(line.get("loss")) is not None]
    lost = [int(number(line.get("step")) or 0) for line in stepped if number(line.get("loss")) is None]
    columns = {name: _column([number(line.get(name)) for line in good]) for name in _COLUMNS}
    columns["low"] = _column([_end(line.get("interval"), 0) for line in good])
    columns["high"] = _column([_end(line.get("interval"), 1) for line in good])
    return columns, lost


def _column(values: Sequence[float | None]) -> Values:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _end(interval: Any, index: int) -> float | None:
    return number(interval[index]) if isinstance(interval, list) and len(interval) == 2 else None


def _last(*columns: Values) -> float | None:
    """The largest finite value: the cumulative count at the end."""
    ends = [float(column[np.isfinite(column)].max()) for column in columns if np.isfinite(column).any()]
    return max(ends, default=None)
