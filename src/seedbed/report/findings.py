"""The sentences of a report on runs: each heading is a finding, computed from the runs and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from seedbed.base.units import bytes_text, figures, seconds_text
from seedbed.report.page import Answer, Mood
from seedbed.report.run_files import BITS, NATS, RunFiles, Score
from seedbed.report.tuning import changes, is_worse, num_records, task_headline
from seedbed.report.units import Measured, table

# Two losses nearer than this are the same to the two decimals that a page shows.
SAME = 0.005
# From the worst to the best.
_VERDICTS: dict[str, Mood] = {
    "No": "bad",
    "Not yet": "warning",
    "Not shown": "warning",
    "Too few to say": "warning",
    "Yes": "good",
}
_VERDICTS |= {"Not measured": "plain"}
_OF_LABELS = (
    ("majority_share", "The most frequent label alone", ".1%"),
    ("macro_f1", "Macro-F1", ".3f"),
    ("entity_f1", "Entity F1", ".3f"),
)
_WORKED = {"yes": "Yes", "no": "No", "not shown": "Not shown", "too few to say": "Too few to say"}


def common_unit(runs: Sequence[RunFiles]) -> str:
    """The unit that all evaluated runs have, nats per token where they differ."""
    units = {run.unit for run in runs if len(run.evaluations["step"])}
    return units.pop() if len(units) == 1 else NATS


def comparable(runs: Sequence[RunFiles]) -> bool:
    """Whether the runs have one objective: losses of masked and of next tokens do not compare."""
    return len({run.settings.get("objective.name") for run in runs}) <= 1


def ranked(runs: Sequence[RunFiles], unit: str) -> list[RunFiles]:
    """The runs from the best held-out loss to the worst, those without one last, each in its own colour.

    Runs of several objectives keep their order: their losses do not compare.
    """
    if comparable(runs):
        runs = sorted(runs, key=lambda run: score.loss.value if (score := run.score(unit)) else math.inf)
    return [replace(run, series=place) for place, run in enumerate(runs)]


def held_out_data(runs: Sequence[RunFiles]) -> str:
    """What a score is measured on: held-out text, or records or words with labels."""
    kinds = {run.labelled or "text" for run in runs}
    return f"held-out {kinds.pop()}" if len(kinds) == 1 else "held-out data"


def _scored(runs: Sequence[RunFiles], unit: str) -> list[tuple[RunFiles, Score]]:
    return [(run, score) for run in runs if (score := run.score(unit))]


def headline(runs: Sequence[RunFiles], unit: str) -> str:
    """The finding of the whole report; `runs` are ranked."""
    scored = _scored(runs, unit)
    if not scored:
        return f"Not evaluated on {held_out_data(runs)} yet"
    if not comparable(runs):
        return f"{len(runs)} networks, each with its own objective: their losses do not compare"
    so_far = "" if all(run.finished for run in runs) else " so far"
    best, score = scored[0]
    if len(scored) == 1 and best.finished and (found := task_headline(best)):
        return found
    if len(scored) == 1 and score.right:
        right = f"{score.right.value:.1%} of the {held_out_data(runs)}"
        share = best.figure("majority_share")
        always = f"; the most frequent label alone: {share.value:.1%}" if share else ""
        return f"{best.title} gives {right} the right label{so_far}{always}"
    if len(scored) == 1:
        return f"{best.title} needs {score.loss.value:.2f}\u00a0{unit} on {held_out_data(runs)}{so_far}"
    second, other = scored[1]
    difference = other.loss.value - score.loss.value
    if difference < SAME:
        return f"{best.title} and {second.title} need the same {unit}{so_far}, to 0.01"
    digits = 3 if difference < 0.095 else 2
    return f"{best.title} needs {difference:.{digits}f}\u00a0{unit} less than {second.title}{so_far}"


def did_it_work(runs: Sequence[RunFiles], unit: str) -> Answer:
    """Whether training ended, stayed finite, and is certainly better than a trivial answer."""
    found = [_outcome(run, unit) for run in runs]
    verdict = min((word for word, _ in found), key=list(_VERDICTS).index)
    lines = [line for word, line in found if word == verdict]
    return Answer("Did it work?", verdict, _VERDICTS[verdict], lines)


def _outcome(run: RunFiles, unit: str) -> tuple[str, str]:
    """How a run went: a word of `_VERDICTS`, and a sentence."""
    if run.lost:
        lost = f"the loss is not finite at {len(run.lost):,} steps, from step {run.lost[0]:,} on"
        return "No", f"{run.title}: {lost}."
    if not run.finished:
        total = f" of {run.num_steps:,}" if run.num_steps is not None else ""
        return "Not yet", f"{run.title}: {run.last_step:,}{total} steps done; the same command resumes it."
    word = _WORKED.get(str(run.metrics.get("worked")))
    score, values = run.score(unit), run.held_out(unit)
    if word is None or score is None:
        again = "the same command, run again, measures it"
        return "Not measured", f"{run.title}: trained to the end, without final figures; {again}."
    said = f"{run.title}: {run.metrics.get('because')}"
    if values[-1] > score.loss.value * 1.005 and not is_worse(run):
        said += f" It rose to {values[-1]:.2f} {unit} after step {score.step:,}, whose model is kept."
    return word, said


def how_well(runs: Sequence[RunFiles], unit: str) -> Answer:
    """The best score, with its interval, beside the others and beside knowing nothing."""
    question, scored = "How well?", _scored(runs, unit)
    if not scored:
        return Answer(question, "Unknown", "plain", [f"No evaluation on {held_out_data(runs)} yet."])
    if not comparable(runs):
        lines = [f"{run.title}: {score.loss.value:.2f} {unit}." for run, score in scored]
        return Answer(question, "Each by its own measure", "plain", lines)
    if len(scored) == 1 and (answer := _task_answer(question, scored[0][0])):
        return answer
    best, score = scored[0]
    shown, form, key = score.loss, ".2f", "bits_per_byte" if unit == BITS else "loss"
    verdict, lines = f"{shown.value:.2f} {unit}", []
    if score.right:
        shown, form, key = score.right, ".1%", "accuracy"
        verdict = f"{shown.value:.1%} right"
        for figure, name, style in _OF_LABELS:
            if found := best.figure(figure):
                lines.append(f"{name}: {found.value:{style}}.")
    elif unit == NATS:
        choices = figures(math.exp(min(shown.value, 30)))
        lines.append(f"As uncertain as a choice among {choices} equally likely tokens.")
    elif shown.value > 0:
        smaller = figures(8 / shown.value, 2)
        lines.append(f"Knowing nothing costs 8: this packs the text {smaller} times smaller.")
    if before := Measured.read(table(best.metrics, "before").get(key)):
        lines.insert(0, f"Before training: {before.value:{form}}.")
    first = f"{best.title}, on {held_out_data(runs)}"
    if shown.interval is not None:
        first += f"; 95% interval {shown.interval[0]:{form}} to {shown.interval[1]:{form}}"
    return Answer(question, verdict, "plain", [f"{first}.", *lines])


def _task_answer(question: str, run: RunFiles) -> Answer | None:
    """The main metric of a run's task, of the weights that the run kept; None where it has none before."""
    main = next(iter(changes(run)), None)
    if main is None or main.before is None:
        return None
    kept = main.before if is_worse(run) else main.after
    lines = [f"{run.title}, {num_records(run):,} answers to held-out records{main.interval(kept)}."]
    if is_worse(run):
        lines.append(f"The base\u2019s own weights; with the trained ones {main.text(main.after)}.")
    else:
        lines.append(f"Before training: {main.text(main.before)}.")
    return Answer(question, f"{main.title} {main.text(kept)}", "plain", [*lines, main.in_words()])


def what_it_cost(runs: Sequence[RunFiles]) -> Answer:
    """Time of all runs together and the largest memory, beside their plan."""
    seconds, planned = _known(run.seconds for run in runs), _known(run.planned("seconds") for run in runs)
    so_far = "" if all(run.finished for run in runs) else " so far"
    time = f"To train {('it', 'both', f'all {len(runs)}')[min(len(runs), 3) - 1]}{so_far}"
    lines = [f"{time}; planned {seconds_text(sum(planned))}." if planned else f"{time}."]
    for word, read in (("Measured", RunFiles.measured), ("Planned", RunFiles.planned)):
        if peaks := _known(read(run, "peak_bytes") for run in runs):
            lines.append(f"{word} memory at the peak: {bytes_text(max(peaks))}.")
    return Answer(
        "What did it cost?", seconds_text(sum(seconds)) if seconds else "Nothing yet", "plain", lines
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def curves_finding(runs: Sequence[RunFiles], unit: str) -> str:
    """Which run is ahead at equal tokens and at equal time, or where one run's curve is lowest."""
    scored = _scored(runs, unit)
    if not scored:
        return "Training loss, before the first evaluation"
    if not comparable(runs):
        return "Each network's own loss: different objectives do not compare"
    if len(scored) == 1:
        ((run, score),) = scored
        if score.step == 0:
            worse = "The answers became worse: the base\u2019s own weights are kept"
            return worse if is_worse(run) else "No step made the base better on held-out data"
        return f"Held-out loss is lowest at step {score.step:,} of {run.last_step:,}"
    tokens, time = (_leader([run for run, _ in scored], unit, axis) for axis in ("tokens", "seconds"))
    return f"{tokens} ahead at equal tokens{' and' if tokens == time else f', {time}'} at equal time"


def _leader(runs: Sequence[RunFiles], unit: str, axis: str) -> str:
    """The run with the least held-out loss at the furthest place on the axis that all have reached."""
    place = np.min([run.evaluations[axis].max() for run in runs])
    losses = [float(np.interp(place, run.evaluations[axis], run.held_out(unit))) for run in runs]
    first, second = sorted(losses)[:2]
    # Where a run has not written the axis, all comparisons with NaN are false.
    return f"{runs[losses.index(first)].title} is" if second - first >= SAME else "No network is"


def plan_finding(runs: Sequence[RunFiles]) -> str:
    """How far the measured memory and time are from the plan."""
    parts = []
    for noun, key in (("memory", "peak_bytes"), ("time", "seconds")):
        pairs = [(run.measured(key), run.planned(key)) for run in runs]
        off = [found / plan - 1 for found, plan in pairs if found and plan]
        ends = dict.fromkeys(f"{end:+.0%}" for end in (min(off), max(off))) if off else ()
        parts += [f"{noun} {' to '.join(ends)}"] if ends else []
    return f"Measured against the plan: {', '.join(parts)}" if parts else "Planned; nothing is measured yet"
