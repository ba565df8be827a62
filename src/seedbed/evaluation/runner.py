"""Run a task: answer its records chunk by chunk, continue after an interruption, and score the answers."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedbed.base.files import write_file
from seedbed.base.settings import to_tree
from seedbed.base.signals import StopSignals
from seedbed.evaluation.answering import Answer, Calibration
from seedbed.evaluation.journal import Journal, chunks, json_line
from seedbed.evaluation.metrics.bootstrap import WeightedScore, bootstrapped
from seedbed.evaluation.metrics.labels import confusion
from seedbed.evaluation.metrics.likelihood import LIKELIHOODS, Likelihood
from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.records import Record
from seedbed.evaluation.result import Result, Scores
from seedbed.evaluation.shots import NEAREST, choose_shots
from seedbed.evaluation.solution import PromptSettings, Solution, SolutionSettings, predicted
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel

Progress = Callable[[Mapping[str, Any]], Any]
ANSWERS = "answers.jsonl"
UNSEEN = ("code", "text")  # forms whose score is not shown while answers come
FEW, MORE = 2, 10  # records whose times show what all will take
SAVED = "the chunks of records that were finished are saved"


class Variant(NamedTuple):
    """One way to choose the shots: a draw of other examples, or another order of the same ones."""

    name: str
    pool: Sequence[Record]


def variants(
    pool: Sequence[Record],
    prompt: PromptSettings,
    settings: TaskSettings,
    *,
    num_draws: int = 1,
    num_orders: int = 1,
    seed: int = 0,
) -> list[Variant]:
    """The choices of shots, the first of which is the solution's; seeds go up by 1 with each draw."""
    number = prompt.num_shots
    if prompt.shots in NEAREST:
        return [Variant(f"nearest by {prompt.shots}", pool)]
    draws = [
        choose_shots(pool, number, settings, choice=prompt.shots, seed=seed + draw)
        for draw in range(num_draws)
    ]
    found = [Variant(f"draw {seed + draw}", shots) for draw, shots in enumerate(draws)]
    order = random.Random(seed)
    for number in range(1, num_orders):
        shuffled = list(draws[0])
        order.shuffle(shuffled)
        found.append(Variant(f"order {number}", shuffled))
    return found


class Chosen(NamedTuple):
    """A solution with its calibration, its outputs for the tested records, and the metrics of them."""

    solution: Solution
    outputs: Sequence[Any]
    metrics: Mapping[str, WeightedScore]


def weighted(
    settings: TaskSettings, references: Sequence[Any], outputs: Sequence[Any]
) -> dict[str, WeightedScore]:
    """The metrics of a task as functions of the records' weights; programs run here, once."""
    return {name: METRICS[name].score(references, outputs) for name in settings.metrics}


def with_intervals(metrics: Mapping[str, WeightedScore], number: int, *, seed: int) -> Scores:
    """Metrics of so many records with their intervals."""
    return {name: bootstrapped(metric, number, seed=seed) for name, metric in metrics.items()}


def signatures(settings: TaskSettings, references: Sequence[Any]) -> dict[str, str]:
    """What papers quote beside the metrics of a task."""
    most = max(map(len, references), default=1) if settings.task.form == "texts" else 1
    return {name: own(most) for name in settings.metrics if (own := METRICS[name].signature) is not None}


def record_values(
    settings: TaskSettings, references: Sequence[Any], outputs: Sequence[Any], main: WeightedScore | None
) -> list[float]:
    """The main metric of each record alone; 1 where the output is the reference."""
    if settings.task.form == "text" or main is None:
        return []
    if settings.task.form == "code":  # no second run
        return [float(main(weights[None])[0]) for weights in np.eye(len(outputs))]
    alone, one = METRICS[settings.metrics[0]].score, np.ones((1, 1))
    pairs = zip(references, outputs, strict=True)
    return [1.0 if its == output else float(alone([its], [output])(one)[0]) for its, output in pairs]


@dataclass(kw_only=True)
class Runner:
    """The records that are tested, and the settings with which they are answered.

    With `out` the answers are kept there, so that an interrupted run continues. `callback` gets `begun`, then
    `expected_seconds`, and `done`, `total` and `score` after each chunk.
    """

    lm: LanguageModel
    settings: SolutionSettings
    tested: Sequence[Record]
    calibration: Calibration = "none"
    seed: int = 0
    out: Path | None = None
    callback: Progress = lambda line: None
    _kept: list[tuple[Journal, list[dict[str, Any]]]] = field(default_factory=list)

    def run(self, choices: Sequence[Variant]) -> tuple[Result, Solution]:
        """The scores of all variants, and the solution of the first with its calibration."""
        try:
            started = time.perf_counter()
            self.callback({"begun": len(self.tested) * len(choices)})
            found: dict[str, dict[str, Scores]] = {}
            first: tuple[Chosen, list[dict[str, Any]]] | None = None
            for number, variant in enumerate(choices):
                solution = Solution(settings=self.settings, lm=self.lm, pool=variant.pool)
                if number == 0:
                    with StopSignals(SAVED) if self.out is not None else nullcontext():
                        self._expect(solution, len(choices))
                lines = self._answers(solution, number, len(choices))
                found[variant.name], chosen = self._by_calibration(solution, lines)
                first = first or (chosen, lines)
            assert first is not None
            return self._result(found, *first, time.perf_counter() - started), first[0].solution
        except BaseException:
            self.release()
            raise

    def close(self) -> None:
        """Keep the answers as they were scored; another run begins anew."""
        for journal, lines in self._kept:
            write_file(journal.path, "".join(f"{json_line(line)}\n" for line in lines).encode())
            journal.forget()
        self._kept.clear()

    def release(self) -> None:
        """Let another process continue or read the answers, which are kept as they are."""
        for journal, _ in self._kept:
            journal.close()
        self._kept.clear()

    def _expect(self, solution: Solution, num_variants: int) -> None:
        """Say what all will take, from the time of a few records."""
        if len(self.tested) <= 2 * MORE:
            return
        some, seconds = self.tested[:: max(1, len(self.tested) // MORE)], []
        for number in (1, FEW, MORE):  # the first call warms up
            started = time.perf_counter()
            self._chunk(solution, some[:number])
            seconds.append(time.perf_counter() - started)
        each = max(0.0, seconds[2] - seconds[1]) / (MORE - FEW)
        fixed = max(0.0, seconds[1] - FEW * each)
        num_chunks = -(-len(self.tested) // solution.chunk)
        expected = num_variants * (num_chunks * fixed + len(self.tested) * each)
        self.callback({"expected_seconds": expected, "total": len(self.tested) * num_variants})

    def _answers(self, solution: Solution, number: int, num_variants: int) -> list[dict[str, Any]]:
        """The answers of all records, those of an interrupted run among them."""
        journal = None
        if self.out is not None:
            name = ANSWERS if number == 0 else f"answers-{number}.jsonl"
            journal = Journal(self.out / name, self._identity(solution))
            self._kept.append((journal, []))
        lines = [] if journal is None else list(journal.lines())
        if lines:
            self.callback({"resumed": number * len(self.tested) + len(lines)})
        total, running, num_kept = len(self.tested) * num_variants, 0.0, len(lines)
        with StopSignals(SAVED) if journal is not None else nullcontext() as signals:
            for some in chunks(self.tested[len(lines) :], solution.chunk):
                answers, fields = self._chunk(solution, some)
                if journal is not None and signals is not None:
                    with signals.hold():
                        journal.append(map(json_line, fields))
                lines += fields
                running += self._chunk_score(some, answers)
                is_shown = self.settings.task.task.form not in UNSEEN
                score = running / (len(lines) - num_kept) if is_shown else None
                done = number * len(self.tested) + len(lines)
                self.callback({"done": done, "total": total, "score": score})
        if journal is not None:
            journal.finish()
            self._kept[-1] = (journal, lines)
        return lines

    def _chunk(
        self, solution: Solution, records: Sequence[Record]
    ) -> tuple[list[Answer], list[dict[str, Any]]]:
        """The answers of a chunk, and the same as lines, with the likelihood of texts without a task."""
        answers = solution.answering.answer(records)
        fields = [
            {"origin": record.origin, "reference": record.reference, **answer.fields()}
            for record, answer in zip(records, answers, strict=True)
        ]
        if self.settings.task.task.form == "text":
            found = solution.answering.likelihoods(records)
            fields = [one | {"likelihood": list(own)} for one, own in zip(fields, found, strict=True)]
        return answers, fields

    def _chunk_score(self, records: Sequence[Record], answers: Sequence[Answer]) -> float:
        """The main metric of a chunk, times its records; for the progress alone, 0 where none is shown."""
        settings = self.settings.task
        if settings.task.form in UNSEEN:
            return 0.0
        metric = METRICS[settings.metrics[0]]
        value = metric.score(references_of(settings, records), [one.output for one in answers])
        return float(value(np.ones((1, len(records))))[0]) * len(records)

    def _identity(self, solution: Solution) -> dict[str, Any]:
        """What the answers depend on."""
        records = [[[one.reference, {**one.fields}] for one in some] for some in (solution.pool, self.tested)]
        found = hashlib.sha256(json.dumps(records, default=str).encode()).hexdigest()
        return to_tree(solution.settings) | {"records": found}

    def _by_calibration(
        self, solution: Solution, lines: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, Scores], Chosen]:
        """The scores with each calibration, and what the chosen one leads to; its answers are in `lines`."""
        task, outputs = self.settings.task, [line["prediction"] for line in lines]
        references = references_of(task, self.tested)
        by_likelihood = self.settings.prompt.answering == "likelihood"
        if not (by_likelihood and task.words):
            metrics = {} if by_likelihood else weighted(task, references, outputs)
            scores = self._scores(metrics)
            if "likelihood" in lines[0]:
                found = [Likelihood(*line["likelihood"]) for line in lines]
                scores |= self._scores({name: metric(found) for name, metric in LIKELIHOODS.items()})
            return {"none": scores}, Chosen(solution, outputs, metrics)
        table = np.array([line["logprobs"] for line in lines])
        labels = list(task.words)
        calibrations: dict[str, dict[str, float]] = {
            "none": {},
            "batch": dict(zip(labels, table.mean(0).tolist(), strict=True)),
        }
        if self.calibration == "content_free":
            calibrations["content_free"] = solution.answering.content_free()
        by_calibration, chosen = {}, Chosen(solution, outputs, {})
        for name, own in calibrations.items():
            made = solution.calibrated(own)
            labelled = made.answering.chosen(table)
            outputs = [label for label, _ in labelled]
            metrics = weighted(task, references, outputs)
            by_calibration[name] = self._scores(metrics)
            if name == self.calibration:
                chosen = Chosen(made, outputs, metrics)
                for line, (label, share) in zip(lines, labelled, strict=True):
                    line |= {"prediction": label, "score": share}  # type: ignore[operator]
        return by_calibration, chosen

    def _scores(self, metrics: Mapping[str, WeightedScore]) -> Scores:
        """Metrics of the tested records with their intervals."""
        return with_intervals(metrics, len(self.tested), seed=self.seed)

    def _result(
        self,
        found: dict[str, dict[str, Scores]],
        chosen: Chosen,
        lines: Sequence[Mapping[str, Any]],
        seconds: float,
    ) -> Result:
        task, prompt, outputs = self.settings.task, self.settings.prompt, chosen.outputs
        references = references_of(task, self.tested)
        by_calibration = next(iter(found.values()))
        labels = list(task.words) if task.task.form == "label" else []
        names = [*labels, *sorted({*outputs} - {*labels})] if labels else []
        answers = [
            predicted(record, line["prediction"], line["score"])
            for record, line in zip(self.tested, lines, strict=True)
        ]
        return Result(
            task=task.title,
            num_records=len(self.tested),
            num_shots=prompt.num_shots,
            answering=prompt.answering,
            chat=prompt.chat,
            metrics=by_calibration[self.calibration],
            seconds=seconds,
            by_calibration=by_calibration if labels and prompt.answering == "likelihood" else {},
            variants=found,
            signatures=signatures(task, references),
            labels=names,
            confusion=confusion(references, outputs, names) if names else None,
            num_fewer_shots=sum(line["num_shots"] < prompt.num_shots for line in lines),
            answers=answers,
            values=record_values(task, references, outputs, chosen.metrics.get(task.metrics[0])),
        )


def references_of(settings: TaskSettings, records: Sequence[Record]) -> list[Any]:
    """The references of records, as the metrics of a task take them."""
    return [one.references if settings.task.form == "texts" else one.reference for one in records]
