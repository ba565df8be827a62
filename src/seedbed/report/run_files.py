"""The files of a run's folder: whatever is missing or damaged becomes a notice, never an error."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedbed.base.files import open_regular
from seedbed.base.settings import flatten
from seedbed.report.page import Name
from seedbed.report.scales import Values
from seedbed.report.units import Measured, number, table
from seedbed.training.decisions import read_decisions
from seedbed.training.metrics import read_metrics
from seedbed.training.run_folder import damaged_files

BITS, NATS, LABELS = "bits per byte", "nats per token", "nats per label"
EXAMPLES = "examples.json"
_COLUMNS = (
    *("step", "tokens", "seconds", "loss", "bits_per_byte", "accuracy"),
    *("tokens_per_second", "peak_fraction"),
)
_LABELLED = {"classification": "records", "tagging": "words"}
_INTERVALS = ("loss", "bits_per_byte", "accuracy")  # figures of an evaluation that have one


class Score(NamedTuple):
    """An evaluation on held-out data: the loss in the unit of the report, and the share of right labels."""

    loss: Measured
    right: Measured | None
    step: int


@dataclass(frozen=True)
class RunFiles:
    """A run as its files show it.

    `name` is that of its folder, by which samples refer to it. `steps` and `evaluations` have a column
    (num_lines,) for each quantity, NaN where a line lacks it. Steps without a finite loss are not in them but
    in `lost`. `metrics` are the figures of its end, empty before; `data` what was read and held out. `series`
    is its place on the page.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    plan: Mapping[str, Any]
    steps: Mapping[str, Values]
    evaluations: Mapping[str, Values]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    lost: Sequence[int]
    card: str
    notices: Sequence[str]
    examples: Sequence[Mapping[str, Any]]
    series: int | None = None

    @property
    def label(self) -> Name:
        """Its name on the page, in its colour."""
        return Name(self.title, self.series)

    @property
    def num_steps(self) -> int | None:
        """The number of steps in the settings."""
        value = number(self.settings.get("training.num_steps"))
        return None if value is None else int(value)

    @property
    def last_step(self) -> int:
        """The last step in the metrics; 0 before the first."""
        return int(self._last("step") or 0)

    @property
    def finished(self) -> bool:
        """Whether the run did all its steps."""
        done = self.num_steps is not None and self.last_step >= self.num_steps
        return done or bool(self.plan.get("measured"))

    @property
    def tokens(self) -> float | None:
        """The tokens trained on so far."""
        return self._last("tokens")

    @property
    def seconds(self) -> float | None:
        """The seconds that training took: measured at the end, or counted so far."""
        return self.measured("seconds") or self._last("seconds")

    def planned(self, key: str) -> float | None:
        """A quantity of the plan."""
        return number(self.plan.get(key))

    def measured(self, key: str) -> float | None:
        """A quantity of the plan as it was measured at the end of the run."""
        return number(table(self.plan, "measured").get(key))

    @property
    def labelled(self) -> str:
        """What has a label each: records, words; empty for a run that learns from text alone."""
        known = np.isfinite(self.evaluations["accuracy"]).any()
        return _LABELLED.get(str(self.settings.get("objective.name")), "labels" if known else "")

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        if self.labelled:
            return LABELS
        bits = self.evaluations["bits_per_byte"]
        return BITS if len(bits) and not np.isnan(bits).any() else NATS

    def held_out(self, unit: str) -> Values:
        """The held-out loss of each evaluation, (num_evaluations,)."""
        return self.evaluations["bits_per_byte" if unit == BITS else "loss"]

    def training(self, unit: str) -> Values:
        """The training loss of each step, (num_steps,); bits by the training text's tokens per byte."""
        if unit != BITS:
            return self.steps["loss"]
        tokens, texts, num_bytes = (
            number(self.data.get(f"train_{key}")) for key in ("tokens", "documents", "bytes")
        )
        per_byte = (tokens - texts) / num_bytes if tokens and texts and num_bytes else math.nan
        return self.steps["loss"] * per_byte / math.log(2)

    def score(self, unit: str) -> Score | None:
        """The best evaluation, whose weights are in `model/`."""
        values = self.held_out(unit)
        if not len(values):
            return None
        kept = number(self.metrics.get("best_step"))  # the base's own, where answers became worse
        at = np.flatnonzero(self.evaluations["step"] == kept)
        best = int(at[0]) if len(at) else int(np.argmin(values))
        loss = self._at(best, "bits_per_byte" if unit == BITS else "loss")
        assert loss is not None
        return Score(loss, self._at(best, "accuracy"), int(self.evaluations["step"][best]))

    def figure(self, name: str) -> Measured | None:
        """A figure of the best weights at the end of the run."""
        return Measured.read(self.metrics.get(name))

    def _at(self, evaluation: int, name: str) -> Measured | None:
        """A figure of an evaluation with its interval."""
        columns = (name, f"{name} low", f"{name} high")
        value, low, high = (float(self.evaluations[column][evaluation]) for column in columns)
        interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None
        return Measured(value, interval) if math.isfinite(value) else None

    def _last(self, name: str) -> float | None:
        """The largest finite value of a column: the cumulative count at the end."""
        column = np.concatenate([self.steps[name], self.evaluations[name]])
        return float(np.nanmax(column)) if np.isfinite(column).any() else None


def is_run(folder: Path) -> bool:
    """Whether a folder has a file that a run writes."""
    return any((folder / name).exists() for name in ("metrics.jsonl", "plan.json", "settings.toml"))


def read_run(folder: Path, title: str = "") -> RunFiles:
    """Read the files of a run's folder, named `title` on its page; what is missing is in `notices`."""
    notices: list[str] = []
    name = folder.resolve().name
    settings = _try(folder / "settings.toml", lambda path: tomllib.loads(_text(path)), notices, {})
    settings = flatten(settings)
    if decisions := read_decisions(folder):
        settings["training.num_steps"] = decisions[-1].num_steps
    lines = _try(folder / "metrics.jsonl", read_metrics, notices, [])
    steps, lost = _columns([line for line in lines if line.get("kind") == "step"])
    evaluations, _ = _columns([line for line in lines if line.get("kind") == "evaluation"])
    examples: Sequence[Mapping[str, Any]] = ()
    if (folder / EXAMPLES).exists():  # runs of earlier versions have none
        examples = _try(folder / EXAMPLES, _examples, notices, ())
    return RunFiles(
        name=name,
        title=title.strip() or name,
        settings=settings,
        plan=read_json(folder / "plan.json", notices),
        steps=steps,
        evaluations=evaluations,
        metrics=_read_later(folder / "metrics.json", notices),
        data=_read_later(folder / "data.json", notices),
        lost=lost,
        card=_try(_result(folder) / "README.md", _text, notices, ""),
        notices=[*notices, *damaged_files(folder)],
        examples=examples,
    )


def _result(folder: Path) -> Path:
    """The folder of what a run made: an adapter, or a model."""
    return adapter if (adapter := folder / "adapter").is_dir() else folder / "model"


def read_json(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """Read a JSON object; an empty one, with a notice, where it is absent or damaged."""
    found = _try(path, lambda path: json.loads(_text(path)), notices, {})
    if isinstance(found, dict):
        return found
    notices.append(f"{path.name} is not a JSON object")
    return {}


def _read_later(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """Read a JSON object that a run does not write from its beginning."""
    return read_json(path, notices) if path.exists() else {}


def _text(path: Path) -> str:
    with open_regular(path) as file:
        return file.read().decode(errors="replace")


def _examples(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The examples of a run; KeyError, TypeError or ValueError where one is not as `Shown` writes it."""
    found = tuple(json.loads(_text(path))["examples"])
    for example in found:
        tokens = [token for side in ("reads", "writes") for token in example[side]]
        texts = [token[key] for token in tokens for key in ("text", "kind", "role")]
        texts += [text for token in tokens if (text := token["answer"]) is not None]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a token of an example has a text that is not a string")
        if not all(type(example[key]) is int for key in ("num_tokens", "num_targets")):
            raise ValueError("an example has a number of tokens that is not an integer")
    return found


def _try(path: Path, read: Callable[[Path], Any], notices: list[str], otherwise: Any) -> Any:
    """Read a file, or add a notice that says why not."""
    parent = path.parent.name
    name = f"{parent}/{path.name}" if parent in ("model", "adapter") else path.name
    try:
        return read(path)
    except FileNotFoundError:
        notices.append(f"{name} does not exist yet")
    except OSError as error:
        notices.append(f"{name} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        notices.append(f"{name} is damaged: {error}")
    return otherwise


def _columns(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Values], list[int]]:
    """The columns of lines that have a finite loss, and the steps of those that have none."""
    numbers = [{name: number(line.get(name)) for name in _COLUMNS} | _ends(line) for line in lines]
    numbers = [line for line in numbers if line["step"] is not None]
    good = [line for line in numbers if line["loss"] is not None]
    lost = [int(line["step"] or 0) for line in numbers if line["loss"] is None]
    names = [*_COLUMNS, *_ends({})]
    return {name: np.array([line[name] for line in good], np.float64) for name in names}, lost


def _ends(line: Mapping[str, Any]) -> dict[str, float | None]:
    """The ends of the intervals of a line."""
    found: dict[str, float | None] = {}
    for name in _INTERVALS:
        known = Measured.read({"value": 0.0, "interval": line.get(f"{name}_interval")})
        low, high = (known and known.interval) or (None, None)
        found |= {f"{name} low": low, f"{name} high": high}
    return found
