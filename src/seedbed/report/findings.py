"""The sentences of a report on runs: each heading is a finding, computed from the runs and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from seedbed.base.units import bytes_text, count_text, figures, seconds_text
from seedbed.report.page import Answer, Mood
from seedbed.report.run_files import LABELS, NATS, RunFiles, Score
from seedbed.report.units import PERCENT, Unit

# Two losses nearer than this are the same to the two decimals that a page shows.
SAME = 0.005
_VERDICTS: dict[Mood, str] = {"bad": "No", "warning": "Not yet", "good": "Yes"}


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
        runs = sorted(runs, key=lambda run: score.value if (score := run.score(unit)) else math.inf)
    return [replace(run, series=place) for place, run in enumerate(runs)]


def named(run: RunFiles, first: bool = False) -> str:
    """A run in a sentence: Transformer takes its article, a name like base-2 or GPT-2 does not."""
    article = ("The " if first else "the ") if run.title[:1].isupper() and run.title.isalpha() else ""
    return article + run.title


def listed(parts: Sequence[str]) -> str:
    """Parts in a sentence: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def held_out_data(runs: Sequence[RunFiles]) -> str:
    """What a score is measured on: held-out text, or records or words with labels."""
    return (
        f"held-out {kinds.pop()}"
        if len(kinds := {run.labelled or "text" for run in runs}) == 1
        else "held-out data"
    )


def headline(runs: Sequence[RunFiles], unit: str) -> str:
    """The finding of the whole report; `runs` are ranked."""
    scored = [(run, score) for run in runs if (score := run.score(unit))]
    if scored and not comparable(runs):
        return f"{len(runs)} networks, each with its own objective: their losses do not compare"
    if not scored:
        who = named(runs[0], first=True) + " has not" if len(runs) == 1 else "None of the networks has"
        return f"{who} been evaluated on {held_out_data(runs)} yet"
    so_far = "" if all(run.finished for run in runs) else " so far"
    best, score = scored[0]
    who = named(best, first=True)
    if len(scored) == 1:
        if len(runs) == 1 and so_far:
            so_far = f" so far, at {_progress(best)}"
        if score.right:
            return f"{who} gives {score.right.value:.1%} of the {held_out_data(runs)} the right label{so_far}"
        return f"{who} needs {score.value:.2f}\u00a0{unit} on {held_out_data(runs)}{so_far}"
    second, other = scored[1]
    difference = other.value - score.value
    if difference < SAME:
        return f"{who} and {named(second)} need the same {unit}{so_far}, to 0.01"
    unsure = ", and their intervals overlap" if _overlap(score, other) else ""
    digits = 3 if difference < 0.095 else 2
    less = f"{difference:.{digits}f}\u00a0{unit} less than {named(second)}{so_far}{unsure}"
    return f"{who} needs {less}" if len(scored) == 2 else f"{who} is the best of {len(scored)}: {less}"


def _overlap(first: Score, second: Score) -> bool:
    """Whether two intervals meet; without intervals nothing is claimed."""
    a, b = first.loss.interval, second.loss.interval
    return a is not None and b is not None and a[1] >= b[0] and b[1] >= a[0]


def circumstances(runs: Sequence[RunFiles], unit: str) -> str:
    """How the figures of the headline were measured, and what limits them."""
    if not any(run.score(unit) for run in runs):
        return "The figures appear after the first evaluation; the command that began a run resumes it."
    counts = {
        "parameters": [run.planned("parameters") for run in runs],
        "tokens of training": [run.tokens for run in runs],
    }
    facts = [f"{_range(values)} {noun}" for noun, values in counts.items() if all(values)]
    who = ("It", "Both", "All")[min(len(runs), 3) - 1]
    sentences = [f"{who} had {listed(facts)}."] if facts else []
    if len(runs) > 1:
        sentences.append("Each was trained once: another seed would change the figures a little.")
        if unit == NATS and comparable(runs):
            sentences.append("Nats per token compare only networks that share a tokenizer.")
    return " ".join(sentences)


def _range(values: Sequence[float | None]) -> str:
    """Counts of several runs: one figure where they are written alike, else the least and the largest."""
    low, high = (count_text(end(_known(values))) for end in (min, max))
    return low if low == high else f"{low} to {high}"


def answers(runs: Sequence[RunFiles], unit: str) -> list[Answer]:
    """The answers of the first screen: did it work, how well, what did it cost."""
    return [did_it_work(runs, unit), how_well(runs, unit), what_it_cost(runs)]


def did_it_work(runs: Sequence[RunFiles], unit: str) -> Answer:
    """Whether training ended, stayed finite, and made the held-out loss lower than it was before."""
    found = [_outcome(run, unit) for run in runs]
    for mood, verdict in _VERDICTS.items():
        if lines := [line for one, line in found if one == mood]:
            resume = ("The same command resumes it.",) if mood == "warning" else ()
            return Answer("Did it work?", verdict, mood, (*_few(lines), *resume))
    unknown = "Trained to the end, with no evaluation that can be compared."
    return Answer("Did it work?", "Not measured", "warning", (unknown,))


def _outcome(run: RunFiles, unit: str) -> tuple[Mood, str]:
    """How a run went, in a sentence; plain where there is nothing to compare."""
    lost, first = run.not_finite
    if lost:
        return "bad", f"{run.title}: the loss is not finite at {lost:,} steps, from step {first:,} on."
    score, values, steps = run.score(unit), run.held_out(unit), run.training(unit)
    # Step 1 shows the loss of the weights before training; without it the first evaluation must do.
    when, before = "at the first evaluation", float(values[0]) if len(values) > 1 else math.nan
    if len(steps) and run.steps["step"][0] == 1 and math.isfinite(steps[0]):
        when, before = "before training", float(steps[0])
    if score and score.value >= before:
        return "bad", f"{run.title}: the held-out loss never fell below that {when}, {before:.2f} {unit}."
    if not run.finished:
        return "warning", f"{run.title}: {_progress(run)}."
    if score is None or math.isnan(before):
        return "plain", ""
    said = f"{run.title}: held-out loss {score.value:.2f} {unit}; {when} {before:.2f}."
    if values[-1] > score.value * 1.005:
        said += f" It rose to {values[-1]:.2f} after step {score.step:,}, whose model is kept."
    return "good", said


def _progress(run: RunFiles) -> str:
    total = f" of {run.num_steps:,}" if run.num_steps is not None else ""
    return f"step {run.last_step:,}{total}" if run.last_step else "no step done"


def _few(lines: Sequence[str]) -> tuple[str, ...]:
    """The first three lines, and how many more there are."""
    return (*lines[:3], f"And {len(lines) - 3} more.") if len(lines) > 4 else tuple(lines)


def how_well(runs: Sequence[RunFiles], unit: str) -> Answer:
    """The best score, with its interval, beside the others and beside knowing nothing."""
    question = "How well?"
    scored = [(run, score) for run in runs if (score := run.score(unit))]
    if not scored:
        return Answer(question, "Unknown", "plain", (f"No evaluation on {held_out_data(runs)} yet.",))
    if not comparable(runs):
        lines = [f"{run.title}: {score.value:.2f} {unit}." for run, score in scored]
        return Answer(question, "Each by its own measure", "plain", _few(lines))
    best, score = scored[0]
    loss = f"{score.value:.2f} {unit}"
    equal = f"as uncertain as a choice among {figures(math.exp(min(score.value, 30)))} equally likely"
    right = score.right
    one, shown = (score.loss, Unit("", decimals=2)) if right is None else (right, PERCENT)
    ends = map(shown.text, one.interval or ())
    between = f", interval {' to '.join(ends)}{shown.name}" if one.interval else ""
    lines = [f"{best.title}, on {held_out_data(runs)}{between}."]
    if len(scored) > 1:
        lines.append(f"{listed([f'{run.title}: {other.value:.2f}' for run, other in scored[1:4]])}.")
    if unit == LABELS:
        lines.append(f"Loss {loss}: {equal} labels.")
    elif unit == NATS:
        lines.append(f"{equal[0].upper()}{equal[1:]} tokens.")
    elif score.value > 0:
        lines.append(
            f"Knowing nothing costs 8: this packs the text {figures(8 / score.value, 2)} times smaller."
        )
    return Answer(question, loss if right is None else f"{right.value:.1%} right", "plain", tuple(lines))


def what_it_cost(runs: Sequence[RunFiles]) -> Answer:
    """Time and memory of all runs together, beside their plan."""
    seconds, planned = _known(run.seconds for run in runs), _known(run.planned("seconds") for run in runs)
    peaks = _known(run.measured("peak_bytes") for run in runs)
    peaks_planned = _known(run.planned("peak_bytes") for run in runs)
    lines = []
    if seconds:
        trained = ("it", "both", f"all {len(runs)}")[min(len(runs), 3) - 1]
        so_far = "" if all(run.finished for run in runs) else " so far"
        plan = f"; planned {seconds_text(sum(planned))}" if len(planned) == len(runs) else ""
        lines.append(f"To train {trained}{so_far}{plan}.")
    if peaks:
        plan = f"; planned {bytes_text(max(peaks_planned))}" if peaks_planned else ""
        lines.append(f"{bytes_text(max(peaks))} of memory at the peak{plan}.")
    elif peaks_planned:
        lines.append(f"{bytes_text(max(peaks_planned))} of memory planned, not measured yet.")
    verdict = seconds_text(sum(seconds)) if seconds else "Nothing yet"
    return Answer("What did it cost?", verdict, "plain", tuple(lines))


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def curves_finding(runs: Sequence[RunFiles], unit: str) -> str:
    """Which run is ahead at equal tokens and at equal time, or where one run's curve is lowest."""
    scored = [(run, score) for run in runs if (score := run.score(unit))]
    if not scored:
        return "Training loss, before the first evaluation"
    if len(scored) > 1:
        found = [run for run, _ in scored]
        if not comparable(found):
            return "Each network's own loss: different objectives do not compare"
        by_tokens, by_time = (_leader(found, unit, axis) for axis in ("tokens", "seconds"))
        if not by_tokens or not by_time:
            return f"Held-out loss of {len(scored)} networks"
        second = "" if by_tokens == by_time else f"{by_time[0].lower()}{by_time[1:]} "
        return f"{by_tokens} is ahead at equal tokens{',' if second else ' and'} {second}at equal time"
    ((run, score),) = scored
    values = run.held_out(unit)
    if len(values) == 1:
        return f"One evaluation so far: {score.value:.2f} {unit}"
    if int(np.argmin(values)) == len(values) - 1:
        return "Held-out loss still falls at the end" if run.finished else "Held-out loss falls so far"
    return f"Held-out loss is lowest at step {score.step:,}"


def _leader(runs: Sequence[RunFiles], unit: str, axis: str) -> str:
    """The run with the least held-out loss at the furthest place on the axis that all have reached."""
    along = [run.evaluations[axis] for run in runs]
    if any(not np.isfinite(values).all() for values in along):
        return ""
    place = min(float(values.max()) for values in along)
    losses = [float(np.interp(place, run.evaluations[axis], run.held_out(unit))) for run in runs]
    first, second = sorted(losses)[:2]
    return "No network" if second - first < SAME else named(runs[losses.index(first)], first=True)


def plan_finding(runs: Sequence[RunFiles]) -> str:
    """How far the measured memory and time are from the plan."""
    parts: list[str] = []
    for noun, key in (("memory", "peak_bytes"), ("time", "seconds")):
        ratios = [ratio for run in runs if (ratio := run.ratio(key)) is not None]
        if len(ratios) == 1:
            parts.append(f"{noun}{'' if parts else ' was'} {_away(ratios[0])}")
        elif ratios:
            off = f"up to {math.ceil(max(abs(ratio - 1) for ratio in ratios) * 100 - 1e-9)}%"
            parts.append(f"{noun} {off}" if parts else f"{noun} was {off} off its plan")
    finding = ", ".join(parts) or "what was planned; nothing is measured yet"
    return finding[0].upper() + finding[1:]


def _away(ratio: float) -> str:
    """How far a measured quantity is from its plan."""
    percent = round((ratio - 1) * 100)
    return "as planned" if percent == 0 else f"{abs(percent)}% {'above' if percent > 0 else 'below'} plan"
