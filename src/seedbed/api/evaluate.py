"""Score a model on a task, by prompt or by its head, or the outputs of any system, as papers do."""

from __future__ import annotations

import hashlib
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedbed.base.arguments import choice_of, path_of, whole_of
from seedbed.base.errors import DataError, SeedbedWarning, UsageError
from seedbed.evaluation.answering import CALIBRATIONS, HOWS, Calibration, How, require_able
from seedbed.evaluation.locked_process import require_lock
from seedbed.evaluation.metrics.paired import compared
from seedbed.evaluation.outputs import read_outputs
from seedbed.evaluation.records import Record, label_values, read_records
from seedbed.evaluation.result import Result, plain
from seedbed.evaluation.runner import (
    ANSWERS,
    Progress,
    Runner,
    signatures,
    variants,
    weighted,
    with_intervals,
)
from seedbed.evaluation.shots import CHOICES, NEAREST, Choice, free_of, require_enough
from seedbed.evaluation.solution import ModelReference, PromptSettings, SolutionSettings, require_own
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.loading import load
from seedbed.hub.base import Base
from seedbed.hub.locate import SOLUTION
from seedbed.report.evaluation import PAGE, RESULT, write_evaluation_page
from seedbed.training.resume import tensor_digest

OWN = (RESULT, PAGE, ANSWERS, f"{ANSWERS}.part.json", f"{ANSWERS}.part.lock")  # of an evaluation alone


def evaluate(
    model: str | Path | LanguageModel,
    task: str | Path | TaskSettings,
    data: str | Path,
    *,
    num_shots: int = 0,
    shots: Choice = "balanced",
    examples: str | Path | None = None,
    answering: How | None = None,
    chat: bool | None = None,
    calibration: Calibration = "none",
    generation: Mapping[str, Any] | None = None,
    num_records: int | None = None,
    num_draws: int = 1,
    num_orders: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    save: str | Path | None = None,
    force: bool = False,
    callback: Progress = lambda line: None,
) -> Result:
    """Answer the records of `data` and score the answers by the metrics of a task, without training.

    `task` is a use case, or a TOML file with a `[task]` table. A model answers with its own head where that
    fits the task, else by prompt: `answering` is `likelihood` (of labels) or `generation`. `chat` asks by
    the model's template; None: where it has one, unless the task has a prompt alone. `num_shots` examples of
    the source `examples` are chosen as `shots` says; none of them is a tested text. Several draws have
    other examples, several orders the same ones in another order. `calibration` is subtracted from the
    log-likelihood of labels: their mean over the tested texts (`batch`, Zhou et al. 2309.17249) or over
    texts that say nothing (`content_free`, Zhao et al. 2102.09690). `num_records` tests a sample. `out` is a
    folder for answers and a page, where the same call continues if it was interrupted; `save` is one for the
    solution that was tested; with another evaluation or solution in it, it is refused unless `force`.
    Errors: UsageError, DataError.
    """
    settings, seed = TaskSettings.of(task), whole_of("seed", seed)
    folder, kept = _folders(out, save, data, force=force)
    _check(settings, num_shots, choice_of("shots", shots, CHOICES), examples, num_draws, num_orders)
    choice_of("calibration", calibration, CALIBRATIONS), choice_of("answering", answering or HOWS[0], HOWS)
    settings, tested, pool = _read(settings, data, examples, num_records, seed)
    require_enough(num_shots, len(pool))
    lm = model if isinstance(model, LanguageModel) else load(model)
    prompt = replace(_prompt(lm, settings, answering, chat), num_shots=num_shots, shots=shots)
    _check_answering(lm, settings, prompt, tested, calibration)
    reference, own = _reference(model, out=out, save=save), dict(generation or {})
    solution = SolutionSettings(model=reference, task=settings, prompt=prompt, generation=own)
    how: dict[str, Any] = {"calibration": calibration, "seed": seed, "out": folder, "callback": callback}
    runner = Runner(lm=lm, settings=solution, tested=tested, **how)
    choices = variants(pool, prompt, settings, num_draws=num_draws, num_orders=num_orders, seed=seed)
    try:
        result, made = runner.run(choices)
        if kept is not None:
            made.save(kept)
        if folder is not None:
            write_evaluation_page(result, folder, model=reference.name, data=str(data))
            runner.close()
    finally:
        runner.release()
    return result


def _read(
    settings: TaskSettings,
    data: str | Path,
    examples: str | Path | None,
    num_records: int | None,
    seed: int,
) -> tuple[TaskSettings, list[Record], list[Record]]:
    """The settings with the labels, the records to test, and the examples that are not among them."""
    tested = list(read_records(data, settings, needs_target=settings.task.needs_target))
    pool = [] if examples is None else list(read_records(examples, settings))
    if settings.task.form == "text":
        without = [one for one in tested if one.reference is None]
        if 0 < len(without) < len(tested):
            raise DataError(
                f"{without[0].origin} has no reference, and others have one; give all of them one, or none"
            )
    settings = _with_labels(settings, tested, pool, str(data))
    if num_records is not None and whole_of("num_records", num_records, least=1) < len(tested):
        tested = random.Random(seed).sample(tested, num_records)
    return settings, tested, free_of(pool, tested)


def _folders(
    out: str | Path | None, save: str | Path | None, data: str | Path, *, force: bool
) -> tuple[Path | None, Path | None]:
    """The folders of the evaluation and of the solution; one in which something would be lost is refused."""
    out = None if out is None else path_of("out", out)
    save = None if save is None else path_of("save", save)
    if save is not None:
        require_own(save)
        if (save / SOLUTION).is_file() and not force:
            raise UsageError(f"{save} has a solution; give a new folder, or --force to replace it")
    if out is None:
        return None, save
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not {*OWN} & {*os.listdir(out)})):
        raise UsageError(f"{out} exists and is not the folder of an evaluation; give a new folder")
    if (out / RESULT).is_file() and not force:
        raise UsageError(f"{out} has a finished evaluation; give a new folder, or --force to replace it")
    if Path(data).resolve().parent == out.resolve():
        raise UsageError(f"{data} is in the folder {out} of the evaluation; give another folder")
    if save is not None and out.resolve() in (save.resolve(), *save.resolve().parents):
        raise UsageError(f"--save {save} is --out {out} or in it; give each its own folder")
    return out, save


def _check(
    settings: TaskSettings,
    num_shots: int,
    shots: str,
    examples: str | Path | None,
    num_draws: int,
    num_orders: int,
) -> None:
    """Refuse what does not fit together."""
    if settings.task.form == "code":
        require_lock()  # before the model answers
    whole_of("num_shots", num_shots)
    whole_of("num_draws", num_draws, least=1)
    whole_of("num_orders", num_orders, least=1)
    if max(num_draws, num_orders) > 1 and (shots in NEAREST or not num_shots):
        raise UsageError(
            "several draws or orders need shots that are the same for all texts; give --num-shots"
        )
    if num_shots and examples is None:
        raise UsageError(
            "shots need examples that are not tested: give --examples FILE, such as training data"
        )


def _with_labels(
    settings: TaskSettings, tested: Sequence[Record], pool: Sequence[Record], source: str
) -> TaskSettings:
    """The settings with the labels of the task: its own, else those of the examples, else of the data."""
    known = list(settings.words)
    found = known or label_values(pool or tested, settings)
    name = "the task has" if known else "the examples have"
    for record in (*tested, *pool):
        for label in settings.task.labels(record.reference) if record.reference is not None else ():
            if label not in found:
                raise DataError(
                    f"{record.origin}: {name} no label {label!r}, only {', '.join(found[:20])}: "
                    "correct the record, leave it out, or name all labels"
                )
    if settings.task.form == "label" and len(found) < 2:
        raise DataError(f"{source} has one label, {found[0]!r}; give records of at least two")
    return settings if known else replace(settings, labels=tuple(found))


def _prompt(
    lm: LanguageModel, settings: TaskSettings, answering: How | None, chat: bool | None
) -> PromptSettings:
    """How the model is asked, where that is not said."""
    task = settings.task
    fits = bool(task.head) and lm.config.head.kind == task.head
    how: How = answering or ("head" if fits else task.answering)
    require_able(lm, settings, how)
    if how == "likelihood" and task.form not in ("label", "text"):
        raise UsageError(f"the task {settings.title} has no labels to choose from; answer by generation")
    if how == "head":
        return PromptSettings(answering=how)
    if chat is None:
        chat = lm.has_chat_template and (settings.prompt is None or settings.instruction is not None)
    used, unused = ("instruction", "prompt") if chat else ("prompt", "instruction")
    if getattr(settings, used) is None and getattr(settings, unused) is not None:
        warnings.warn(
            f"the {unused} has no effect {'in' if chat else 'without'} a chat; give the {used} instead",
            SeedbedWarning,
            stacklevel=3,
        )
    return PromptSettings(answering=how, chat=chat)


def _check_answering(
    lm: LanguageModel,
    settings: TaskSettings,
    prompt: PromptSettings,
    tested: Sequence[Record],
    calibration: Calibration,
) -> None:
    """Refuse what the way of answering has no use for."""
    if prompt.answering == "head":
        if prompt.num_shots:
            raise UsageError("a network's own head answers without examples; leave out num_shots")
        _require_known(lm, settings, tested)
    if calibration != "none" and (prompt.answering != "likelihood" or settings.task.form != "label"):
        raise UsageError(f"calibration={calibration!r} is for labels by likelihood; leave it out")


def _require_known(lm: LanguageModel, settings: TaskSettings, tested: Sequence[Record]) -> None:
    """Refuse a head without the labels of the records; warn of records whose labels it does not have."""
    task = settings.task

    def labels(reference: Any) -> set[str]:
        return {*task.labels(reference)}

    names = [[name] if task.form == "tags" else name for name in lm.config.head.labels]
    its = {each for name in names for each in labels(name)}
    unknown = [one for one in tested if one.reference is not None and not labels(one.reference) <= its]
    if not unknown:
        return
    missing = ", ".join(sorted({each for one in unknown for each in labels(one.reference)} - its)[:10])
    said = f"the model's head has the labels {', '.join(sorted(its)[:20])}, and not {missing}"
    if not its & {each for one in tested for each in labels(one.reference)}:
        raise DataError(f"{unknown[0].origin}: {said}; name the labels of the records as the model does")
    warnings.warn(f"{said}: {len(unknown)} records have one of these", SeedbedWarning, stacklevel=3)


def _reference(
    model: str | Path | LanguageModel, *, out: str | Path | None, save: str | Path | None
) -> ModelReference:
    """The name of a model; with its fingerprint where something is left of it."""
    if isinstance(model, LanguageModel):
        if save is not None:
            raise UsageError("a solution names its model: give the model's folder or name, not a loaded one")
        fingerprint = None if out is None else _weights_digest(model)
        return ModelReference(name="a loaded model", fingerprint=fingerprint)
    name = str(model)
    if Path(name).expanduser().exists():
        name = str(Path(name).expanduser().resolve())
    return ModelReference(name=name, fingerprint=Base.open(name).fingerprint if out or save else None)


def _weights_digest(lm: LanguageModel) -> str:
    """The SHA-256 of a network's weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(lm.module.state_dict().items()):
        found.update(f"{name} {tensor_digest(tensor)}".encode())
    return found.hexdigest()


def evaluate_outputs(
    task: str | Path | TaskSettings,
    predictions: Path | str,
    *,
    references: Path | str | None = None,
    against: Path | str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The scores of a file of outputs by a task's metrics, each with its 95% interval.

    `against` are another system's outputs for the same records: `difference` has ours minus theirs, with its
    interval and p-value. Errors: UsageError for references that are missing or have no use; DataError for a
    file that does not match.
    """
    settings = TaskSettings.of(task)
    chosen, name = settings.task, settings.title
    seed = whole_of("seed", seed)
    needs = chosen.form != "text"
    if needs and references is None:
        raise UsageError(f"the task {name} needs references: give --references FILE")
    if not needs and references is not None:
        raise UsageError(f"the task {name} has no references; leave out --references")
    outputs = read_outputs(predictions, chosen.form)
    true = (
        outputs
        if references is None
        else read_outputs(references, chosen.form, are_references=True, field=settings.target)
    )
    others = None if against is None else read_outputs(against, chosen.form)
    for file, found in ((str(references), true), (str(against), others)):
        if found is not None:
            _require_equal(outputs, found, str(predictions), file, are_tags=chosen.form == "tags")
    if settings.words and chosen.form == "label" and (unknown := {*true} - {*settings.words}):
        raise DataError(
            f"{references}: the task has no label {min(unknown)!r}, only {', '.join(settings.words)}; "
            "correct the file or the task"
        )
    number, metrics = len(outputs), weighted(settings, true, outputs)
    result: dict[str, Any] = {"task": name, "num_records": number}
    result["metrics"] = plain(with_intervals(metrics, number, seed=seed))
    result["signatures"] = signatures(settings, true)
    if others is not None:
        both = weighted(settings, [*true, *true], [*outputs, *others])
        result["difference"] = {
            name: compared(metric, number, seed=seed).to_dict() for name, metric in both.items()
        }
    return result


def _require_equal(
    one: Sequence[Any], other: Sequence[Any], name: str, other_name: str, *, are_tags: bool
) -> None:
    """Refuse files of different numbers of records, or of words."""
    if len(one) != len(other):
        raise DataError(
            f"{name} has {len(one)} outputs and {other_name} {len(other)}; give one for each record, in the "
            "same order"
        )
    pairs = enumerate(zip(one, other, strict=True), 1)
    if are_tags and (wrong := next(((i, a, b) for i, (a, b) in pairs if len(a) != len(b)), None)):
        number, ours, theirs = wrong
        raise DataError(
            f"text {number} has {len(ours)} tags in {name} and {len(theirs)} in {other_name}; give one for "
            "each word"
        )
