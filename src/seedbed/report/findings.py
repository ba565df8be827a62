"""What a report says in words: each heading is a finding, computed from the runs and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seedbed.report.run_files import BITS, NATS, RunFiles, Score
from seedbed.report.units import away_text, bytes_text, count_text, figures, score_text, seconds_text

# Two losses nearer than this are the same to the two decimals that a page shows.
SAME = 0.005


@dataclass(frozen=True)
class Answer:
    """The answer to one of the three questions of the first screen."""

    question: str
    verdict: str
    mood: Literal["good", "warning", "bad", "plain"]
    lines: tuple[str, ...]


def common_unit(runs: Sequence[RunFiles]) -> str:
    """Bits per byte where every evaluated run has them, nats per token otherwise."""
    units = {run.unit() for run in runs if len(run.evaluations["step"])}
    return BITS if units == {BITS} else NATS


def comparable(runs: Sequence[RunFiles]) -> bool:
    """Whether the runs have one objective: a loss of masked tokens says nothing about one of next tokens."""
    return len({run.settings.get("objective.name") for run in runs}) <= 1


def ranked(runs: Sequence[RunFiles], unit: str) -> list[RunFiles]:
    """The runs from the best held-out score to the worst, those without one last.

    Runs of several objectives stay as they are: their losses do not compare.
    """
    if not comparable(runs):
        return list(runs)
    return sorted(runs, key=lambda run: score.value if (score := run.score(unit)) else math.inf)


def named(run: RunFiles, first: bool = False) -> str:
    """A run in a sentence: Transformer takes its article, a name like base-2 or GPT-2 does not."""
    article = ("The " if first else "the ") if run.title[:1].isupper() and run.title.isalpha() else ""
    return article + run.title


def listed(parts: Sequence[str]) -> str:
    """Parts in a sentence: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def headline(runs: Sequence[RunFiles], unit: str) -> str:
    """The finding of the whole report; `runs` are ranked."""
    scored = [(run, score) for run in runs if (score := run.score(unit))]
    if scored and not comparable(runs):
        return f"{len(runs)} networks, each with its own objective: their losses do not compare"
    if not scored:
        who = named(runs[0], first=True) if len(runs) == 1 else "None of the networks"
        return f"{who} has {'not ' if len(runs) == 1 else ''}been evaluated on held-out text yet"
    so_far = "" if all(run.finished for run in runs) else " so far"
    best, best_score = scored[0]
    if len(scored) == 1:
        needs = f"needs {score_text(best_score.value)}\u00a0{unit}"
        if len(runs) == 1 and so_far:
            so_far = f" so far, at {_progress(best)}"
        return f"{named(best, first=True)} {needs} on held-out text{so_far}"
    second, second_score = scored[1]
    difference = second_score.value - best_score.value
    pair = f"{named(best, first=True)} and {named(second)}"
    if difference < SAME:
        return f"{pair} need the same {unit}{so_far}, to 0.01"
    unsure = ", and their intervals overlap" if overlap(best_score, second_score) else ""
    less = f"{score_text(difference, difference)}\u00a0{unit} less than {named(second)}"
    if len(scored) == 2:
        return f"{named(best, first=True)} needs {less}{so_far}{unsure}"
    return f"{named(best, first=True)} is the best of {len(scored)}: {less}{so_far}{unsure}"


def overlap(first: Score, second: Score) -> bool:
    """Whether two scores' intervals meet; without intervals nothing is claimed."""
    if first.interval is None or second.interval is None:
        return False
    return first.interval[1] >= second.interval[0] and second.interval[1] >= first.interval[0]


def circumstances(runs: Sequence[RunFiles], unit: str) -> str:
    """How the figures of the headline came about, and what limits them."""
    if not any(run.score(unit) for run in runs):
        return "The figures appear after the first evaluation; the command that began a run goes on with it."
    counts = {
        "{} parameters": [value for run in runs if (value := run.planned("parameters"))],
        "{} tokens of training": [value for run in runs if (value := run.tokens)],
    }
    facts = [_alike(values, noun) for noun, values in counts.items() if len(values) == len(runs)]
    who = ("It", "Both", "All")[min(len(runs), 3) - 1]
    sentences = [f"{who} had {listed(facts)}."] if facts else []
    if len(runs) > 1:
        sentences.append("Each was trained once: another seed would move the figures a little.")
        if unit == NATS and comparable(runs):
            sentences.append("Nats per token compare only networks that share a tokenizer.")
    return " ".join(sentences)


def _alike(values: Sequence[float], noun: str) -> str:
    """Counts of several runs: one figure where they agree to 2%, else all, called unequal beyond 5%."""
    if max(values) == min(values):
        return noun.format(count_text(values[0]))
    if max(values) <= 1.02 * min(values):
        return noun.format(f"about {count_text(float(f'{sum(values) / len(values):.3g}'))}")
    unequal = " (not equal)" if max(values) > 1.05 * min(values) else ""
    return noun.format(" and ".join([count_text(value) for value in values])) + unequal


def did_it_work(runs: Sequence[RunFiles], unit: str) -> Answer:
    """Whether training ended, stayed finite and helped on held-out text."""
    question = "Did it work?"
    broken = [line for run in runs for line in _failures(run, unit)]
    if broken:
        return Answer(question, "No", "bad", _few(broken))
    unfinished = [f"{run.title}: {_progress(run)}." for run in runs if not run.finished]
    if unfinished:
        lines = (*_few(unfinished), "The same command goes on from there.")
        return Answer(question, "Not yet", "warning", lines)
    falls = [_fall(run, unit) for run in runs if run.score(unit)]
    if not falls:
        return Answer(question, "Not measured", "warning", ("Trained to the end, and never evaluated.",))
    rose = [line for run in runs if (line := _rise(run, unit))]
    return Answer(question, "Yes", "good", (*_few(falls), *_few(rose)))


def _few(lines: Sequence[str]) -> tuple[str, ...]:
    """The first three lines, and how many more there are."""
    return (*lines[:3], f"And {len(lines) - 3} more.") if len(lines) > 4 else tuple(lines)


def _failures(run: RunFiles, unit: str) -> list[str]:
    lost, first = run.not_finite
    values = run.held_out(unit)
    failures = []
    if lost:
        failures.append(f"{run.title}: the loss is not finite at {lost:,} steps, from step {first:,} on.")
    if len(values) > 1 and values.min() >= values[0]:
        failures.append(
            f"{run.title}: held-out loss never fell below its first value, {values[0]:.2f} {unit}."
        )
    return failures


def _progress(run: RunFiles) -> str:
    wanted = f" of {run.num_steps:,}" if run.num_steps is not None else ""
    return f"step {run.last_step:,}{wanted}" if run.last_step else "no step done"


def _fall(run: RunFiles, unit: str) -> str:
    values = run.held_out(unit)
    if len(values) == 1:
        return f"{run.title}: evaluated once."
    return f"{run.title}: held-out loss fell from {values[0]:.2f} to {values.min():.2f}."


def _rise(run: RunFiles, unit: str) -> str:
    """A rise of the held-out loss after its best, of more than half a percent."""
    values, score = run.held_out(unit), run.score(unit)
    if score is None or values[-1] <= score.value * 1.005:
        return ""
    return f"{run.title}: it rose to {values[-1]:.2f} after step {score.step:,}, whose model is kept."


def how_well(runs: Sequence[RunFiles], unit: str) -> Answer:
    """The best score, with its interval, beside the others and beside knowing nothing."""
    question = "How well?"
    scored = [(run, score) for run in runs if (score := run.score(unit))]
    if not scored:
        return Answer(question, "Unknown", "plain", ("No evaluation on held-out text yet.",))
    if not comparable(runs):
        lines = [f"{run.title}: {score.value:.2f} {unit}." for run, score in scored]
        return Answer(question, "Each by its own measure", "plain", _few(lines))
    best, score = scored[0]
    lines = [f"{best.title}, on held-out text{_between(score)}."]
    if len(scored) > 1:
        lines.append(f"{listed([f'{run.title}: {other.value:.2f}' for run, other in scored[1:4]])}.")
    if unit == NATS:
        lines.append(f"As unsure as among {figures(math.exp(min(score.value, 30)))} equally likely tokens.")
    elif score.value > 0:
        smaller = figures(8 / score.value, 2)
        lines.append(f"Knowing nothing costs 8: this packs the text {smaller} times smaller.")
    return Answer(question, f"{score.value:.2f} {unit}", "plain", tuple(lines))


def _between(score: Score) -> str:
    return f", interval {score.interval[0]:.2f} to {score.interval[1]:.2f}" if score.interval else ""


def what_it_cost(runs: Sequence[RunFiles]) -> Answer:
    """Time and memory of all runs together, beside their plan."""
    seconds = [value for run in runs if (value := run.seconds) is not None]
    planned = [value for run in runs if (value := run.planned("seconds")) is not None]
    peaks = [value for run in runs if (value := run.measured("peak_bytes")) is not None]
    peaks_planned = [value for run in runs if (value := run.planned("peak_bytes")) is not None]
    lines = []
    if seconds:
        spent = f"To train {'it' if len(runs) == 1 else 'both' if len(runs) == 2 else f'all {len(runs)}'}"
        so_far = "" if all(run.finished for run in runs) else " so far"
        plan = f"; planned {seconds_text(sum(planned))}" if len(planned) == len(runs) else ""
        lines.append(f"{spent}{so_far}{plan}.")
    if peaks:
        plan = f"; planned {bytes_text(max(peaks_planned))}" if peaks_planned else ""
        lines.append(f"{bytes_text(max(peaks))} of memory at the peak{plan}.")
    elif peaks_planned:
        lines.append(f"{bytes_text(max(peaks_planned))} of memory planned, not measured yet.")
    verdict = seconds_text(sum(seconds)) if seconds else "Nothing yet"
    return Answer("What did it cost?", verdict, "plain", tuple(lines))


def curves_finding(runs: Sequence[RunFiles], unit: str) -> str:
    """Who is ahead at equal tokens and at equal time, or how one run's curve went."""
    scored = [run for run in runs if run.score(unit)]
    if not scored:
        return "Training loss, before the first evaluation"
    if len(scored) == 1:
        return _one_curve(scored[0], unit)
    if not comparable(scored):
        return "Each network's own loss: different objectives do not compare"
    by_tokens, by_time = (_leader(scored, unit, axis) for axis in ("tokens", "seconds"))
    if by_tokens is None or by_time is None:
        return f"Held-out loss of {len(scored)} networks"
    if by_tokens is by_time:
        return f"{named(by_tokens, first=True)} is ahead at equal tokens and at equal time"
    return f"{named(by_tokens, first=True)} is ahead at equal tokens, {named(by_time)} at equal time"


def _one_curve(run: RunFiles, unit: str) -> str:
    values, score = run.held_out(unit), run.score(unit)
    assert score is not None
    if len(values) == 1:
        return f"One evaluation so far: {score.value:.2f} {unit}"
    if int(np.argmin(values)) == len(values) - 1:
        return "Held-out loss still falls at the end" if run.finished else "Held-out loss falls so far"
    return f"Held-out loss is lowest at step {score.step:,}"


def _leader(runs: Sequence[RunFiles], unit: str, axis: str) -> RunFiles | None:
    """The run with the least held-out loss at the furthest place on the axis that all have reached."""
    ends = [run.evaluations[axis] for run in runs]
    if any(not np.isfinite(end).all() for end in ends):
        return None
    place = min(float(end.max()) for end in ends)
    losses = [float(np.interp(place, run.evaluations[axis], run.held_out(unit))) for run in runs]
    return runs[losses.index(min(losses))]


def plan_finding(runs: Sequence[RunFiles]) -> str:
    """How far the measured memory and time lie from the plan."""
    parts: list[str] = []
    for noun, key in (("memory", "peak_bytes"), ("time", "seconds")):
        ratios = [ratio for run in runs if (ratio := run.ratio(key)) is not None]
        if len(ratios) == 1:
            parts.append(f"{noun}{'' if parts else ' came out'} {away_text(ratios[0])}")
        elif ratios:
            furthest = max(abs(ratio - 1) for ratio in ratios)
            off = f"up to {math.ceil(furthest * 100 - 1e-9)}%"
            parts.append(f"{noun} {off}" if parts else f"{noun} came out {off} off its plan")
    finding = ", ".join(parts) or "what was planned; nothing is measured yet"
    return finding[0].upper() + finding[1:]
