"""A solution: what answers a task, as a folder with `solution.toml` and the examples of its prompt."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seedbed.base.errors import BundleError, DataError, UsageError
from seedbed.base.files import disk_errors, write_file
from seedbed.base.settings import load_settings, to_toml
from seedbed.evaluation.answering import Answer, Answering, How, Shots, same_shots
from seedbed.evaluation.journal import chunks, json_line
from seedbed.evaluation.records import Record, read_records, record_of
from seedbed.evaluation.shots import NEAREST, Choice, nearest_shots
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.generation.settings import GenerationSettings
from seedbed.hub.base import Base
from seedbed.hub.locate import SOLUTION
from seedbed.nn.config import HeadConfig

SHOTS = "shots.jsonl"
# Records that are answered together: the same ones whatever was interrupted, so that answers are the same.
CHUNKS: dict[How, int] = {"likelihood": 128, "generation": 32, "head": 256}


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """The `[prompt]` table: how a task is asked and answered; `num_shots` examples are in shots.jsonl.

    Of the choices `bm25` and `embeddings`, shots.jsonl has all examples, and each record gets its nearest.
    """

    answering: How
    chat: bool = False
    num_shots: int = 0
    shots: Choice = "balanced"
    calibration: dict[str, float] = field(default_factory=dict)  # log-likelihood that a label loses


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """The `[model]` table: the name of the model, the SHA-256 of its config and weights, their type."""

    name: str
    fingerprint: str | None = None
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class SolutionSettings:
    """The content of solution.toml; `generation` are settings of `generate` beside the task's."""

    model: ModelReference
    task: TaskSettings
    prompt: PromptSettings
    generation: dict[str, float | int | bool | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words, prompt = self.task.words, self.prompt
        if unknown := {*prompt.calibration} ^ {*words} if prompt.calibration else {}:
            raise UsageError(
                f"the calibration and the labels differ in {min(unknown)!r}; give one number for each"
            )
        if not all(map(math.isfinite, prompt.calibration.values())):
            raise UsageError(
                f"the calibration {prompt.calibration} has a value that is not finite; correct it"
            )
        if prompt.num_shots < 0:
            raise UsageError(f"num_shots={prompt.num_shots} is not allowed; give 0 or more")
        if prompt.answering == "likelihood" and self.task.task.form == "label" and len(words) < 2:
            raise UsageError("a solution by likelihood needs two labels or more; name them in [task] labels")
        if "max_new_tokens" in self.generation:
            raise UsageError("max_new_tokens is a setting of the task; write it into [task]")
        if wrong := {"num_samples", "logprobs"} & {*self.generation}:
            raise UsageError(f"generation.{min(wrong)} is not allowed: a record has one answer; leave it out")
        GenerationSettings.of(self.task.max_new_tokens or 1, dict(self.generation))  # type: ignore[arg-type]


@dataclass(kw_only=True)
class Solution:
    """A model, its prompt and its shots: it answers records of a task."""

    settings: SolutionSettings
    lm: LanguageModel
    pool: Sequence[Record] = ()  # the shots, or those that are searched

    def __post_init__(self) -> None:
        prompt = self.settings.prompt
        shots: Shots = same_shots(self.pool)
        if prompt.num_shots and prompt.shots in NEAREST:
            shots = nearest_shots(self.pool, prompt.num_shots, prompt.shots, self.lm)
        self.answering = Answering(
            lm=self.lm,
            settings=self.settings.task,
            how=prompt.answering,
            chat=prompt.chat,
            shots=shots,
            calibration=prompt.calibration,
            generation=self.settings.generation,
        )

    def calibrated(self, calibration: dict[str, float]) -> Solution:
        """The same with another calibration; its shots are not searched anew."""
        made = copy.copy(self)
        prompt = replace(self.settings.prompt, calibration=calibration)
        made.settings = replace(self.settings, prompt=prompt)
        made.answering = replace(self.answering, calibration=calibration)
        return made

    @property
    def chunk(self) -> int:
        """How many records are answered together."""
        return CHUNKS[self.settings.prompt.answering]

    def predict(self, records: Iterable[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Each record with `prediction` and `score` added; a text is a record of that field.

        The score is between 0 and 1: a label's share of all labels, else the geometric mean of the
        probabilities of tokens or tags. A record without its text, or with a text that is too long, has None
        for both, and `error` says why.
        """
        if isinstance(records, str | Mapping) or not isinstance(records, Iterable):
            raise UsageError("predict takes a list of texts or records; give a list of one")
        return list(self.stream(records))

    def stream(self, records: Iterable[str | Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The same, one by one, for any number of records."""
        named = (
            record_of(one, self.settings.task, f"record {number}") for number, one in enumerate(records, 1)
        )
        for some in chunks(named, self.chunk):
            yield from self.answered(some)

    def answered(self, records: Sequence[Record]) -> Iterator[dict[str, Any]]:
        """The same for a chunk of records."""
        answers = iter(self._answers([record for record in records if not record.problem]))
        for record in records:
            answer = record.problem or next(answers)
            if isinstance(answer, str):
                yield {**record.fields, "prediction": None, "score": None, "error": answer}
            else:
                yield predicted(record, answer.output, answer.score)

    def _answers(self, records: Sequence[Record]) -> Sequence[Answer | str]:
        """The answer of each record, or why it has none."""
        try:
            return self.answering.answer(records) if records else []
        except (DataError, UsageError) as error:
            if len(records) == 1:
                return [str(error)]
            return [answer for record in records for answer in self._answers([record])]

    def save(self, folder: Path) -> None:
        """Write solution.toml and shots.jsonl into a folder. Errors: UsageError for one of something else."""
        require_own(folder)
        if self.settings.prompt.answering == "likelihood" and not self.settings.task.words:
            raise UsageError("likelihoods of texts are no answers, so there is no solution; leave out --save")
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not self.pool:
                (folder / SHOTS).unlink(missing_ok=True)
        if self.pool:
            lines = "".join(f"{json_line(one.fields)}\n" for one in self.pool)
            write_file(folder / SHOTS, lines.encode())
        write_file(folder / SOLUTION, to_toml(self.settings).encode())

    @classmethod
    def open(cls, folder: Path) -> Solution:
        """Read a folder that `save` wrote, and load its model. Errors: BundleError for a changed model."""
        settings = load_settings(SolutionSettings, folder / SOLUTION)
        name = settings.model.name
        inner = folder / name
        name = str(inner) if not name.startswith("package:") and inner.exists() else name
        expected = settings.model.fingerprint
        if expected is not None and (found := Base.open(name).fingerprint) != expected:
            raise BundleError(
                f"the model {name} is not the one that {folder / SOLUTION} was made with (its fingerprint is "
                f"{found[:12]}, not {expected[:12]}); give that model back its place, or evaluate this one "
                "with --save"
            )
        shots = folder / SHOTS
        pool = list(read_records(shots, settings.task)) if shots.exists() else []
        is_exact = settings.prompt.shots not in NEAREST
        if len(pool) < settings.prompt.num_shots or (is_exact and len(pool) != settings.prompt.num_shots):
            raise BundleError(
                f"{shots} has {len(pool)} of {settings.prompt.num_shots} shots; evaluate again with --save"
            )
        return cls(settings=settings, lm=load(name, dtype=settings.model.dtype), pool=pool)


def require_own(folder: Path) -> None:
    """Refuse with a UsageError a folder that has something else than a solution."""
    is_other = folder.exists() and not (folder / SOLUTION).is_file()
    if is_other and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not a solution; give a new folder")


def predicted(record: Record, output: Any, score: float) -> dict[str, Any]:
    """A record as it came with `prediction` and `score` added."""
    return {**record.fields, "prediction": output, "score": round(score, 6)}


def of_head(head: HeadConfig, model: ModelReference, fields: Mapping[str, Any]) -> SolutionSettings:
    """The settings with which a network's own head answers. Errors: UsageError for one without labels."""
    if head.kind not in ("classification", "tagging"):
        raise UsageError(
            f"{model.name} has no labels: its head is {head.kind}; evaluate it with --save and predict with "
            "that"
        )
    use_case = "classify" if head.kind == "classification" else "tag"
    task = TaskSettings(use_case=use_case, labels=tuple(head.labels), **fields)
    return SolutionSettings(model=model, task=task, prompt=PromptSettings(answering="head"))


def of_answers(model: ModelReference, fields: Mapping[str, Any], *, chat: bool) -> SolutionSettings:
    """The settings of a model that was trained on answers: a record's text is the whole prompt."""
    named = {"instruction" if chat else "prompt": "{input}", **fields}
    task = TaskSettings(use_case="write", **named)
    return SolutionSettings(model=model, task=task, prompt=PromptSettings(answering="generation", chat=chat))
