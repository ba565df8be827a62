"""The sections of a report on runs: the table of all, loss curves, plan, speed, cards, settings, commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seedbed.base.settings import flatten
from seedbed.base.units import bytes_text, figures
from seedbed.report.charts import MOST_STRETCHES, Line, line_figure, spanning
from seedbed.report.completions import generate_commands
from seedbed.report.findings import comparable, curves_finding, held_out_data, named, plan_finding
from seedbed.report.page import (
    Block,
    Cell,
    Column,
    Details,
    Figures,
    Name,
    Section,
    Table,
    Text,
    card,
    results_table,
)
from seedbed.report.run_files import BITS, RunFiles
from seedbed.report.scales import Values
from seedbed.report.tracks import track_figure
from seedbed.report.units import PERCENT, Measured, Unit, bytes_unit, count_unit, number, seconds_unit

Source = Callable[[str], tuple[str, str]]  # a file of the runs, and the command that reads it
_MOST_LINES = 7
_MOST_ROWS = 16  # of the held-out figures of a run
_RIGHT = Unit("% right", 0.01, 1)


def glance(runs: Sequence[RunFiles], unit: str) -> Table:
    """The table of all runs: score, size, cost."""
    scores = [run.score(unit) for run in runs]
    losses, rights = [s.loss if s else None for s in scores], [s.right if s else None for s in scores]
    parameters, tokens = [run.planned("parameters") for run in runs], [run.tokens for run in runs]
    seconds, peaks = [run.seconds for run in runs], [run.measured("peak_bytes") for run in runs]
    speeds = [rate.value if rate else None for rate in map(_rate, runs)]
    columns = [Column("Right labels", rights, PERCENT, "high")] if any(rights) else []
    columns += [
        Column("Held-out", losses, Unit(unit, decimals=3), "low" if comparable(runs) else ""),
        Column("Size", parameters, count_unit(parameters, "parameters")),
        Column("Trained on", tokens, count_unit(tokens, "tokens")),
        Column("Training time", seconds, seconds_unit(seconds), "low"),
        Column("Peak memory", peaks, bytes_unit(peaks), "low"),
        Column("Speed", speeds, Unit("tokens/s"), "high"),
    ]
    return results_table("The networks at a glance", "Network", [run.label for run in runs], columns)


def curves(runs: Sequence[RunFiles], unit: str, source: Source) -> Section:
    """Training and held-out loss of the runs, over tokens and over seconds; labels that are right."""
    # Both losses of every network where seven lines are enough, else the one that networks are compared by.
    kinds = ("held-out", "training") if 2 * len(runs) <= _MOST_LINES else ("held-out",)
    loss, tokens = Unit(unit, decimals=2), count_unit((run.tokens for run in runs), "tokens")
    seconds = seconds_unit(run.seconds for run in runs)

    by_tokens, by_time = (
        [line for kind in kinds for run in runs for line in _loss(run, kind, axis, unit)]
        for axis in ("tokens", "seconds")
    )
    held_out = [(run.label, "held-out", run.evaluations["tokens"], *run.right()) for run in runs]
    right = [line for columns in held_out for line in _line(*columns)]
    scale = spanning(by_tokens, tokens, loss) if by_tokens else None
    drawn = [
        line_figure("loss-tokens", "Loss over tokens trained on", by_tokens, tokens, loss, y_scale=scale),
        line_figure(
            "loss-seconds",
            "Loss over training time, evaluations included",
            by_time,
            seconds,
            loss,
            y_scale=scale,
        ),
        line_figure("accuracy", f"Right labels of {held_out_data(runs)}", right, tokens, _RIGHT),
    ]
    heading = curves_finding(runs, unit)
    if not any(drawn):
        return Section("curves", heading, [Text("No step is written yet.")])
    reading = f"Heavy lines with points: {held_out_data(runs)}."
    if "training" in kinds:
        reading += " Thin lines: training."
        if max(len(run.steps["step"]) for run in runs) > MOST_STRETCHES:
            reading += " Each point is the mean of a stretch of steps, the band their lowest to highest."
        if unit == BITS:
            reading += (
                " Training loss is converted to bits per byte with the held-out text's tokens per byte."
            )
    if any(line.low is not None and np.isfinite(line.low).any() for line in (*by_tokens, *right)):
        reading += " Whiskers: 95% intervals."
    note = Text(reading, "muted", source("metrics.jsonl"))
    return Section("curves", heading, [Figures(drawn), note, *_evaluations(runs, unit)])


def _loss(run: RunFiles, kind: str, axis: str, unit: str) -> list[Line]:
    """One loss of one run over one axis; nothing where none of it can be drawn."""
    held_out = kind == "held-out"
    columns, losses = (run.evaluations, run.held_out(unit)) if held_out else (run.steps, run.training(unit))
    return _line(run.label, kind, columns[axis], losses, columns["low"], columns["high"])


def _line(name: Name, kind: str, x: Values, y: Values, low: Values, high: Values) -> list[Line]:
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    order = known[np.argsort(x[known], kind="stable")]
    marked = kind == "held-out"
    return [Line(name, kind, x[order], y[order], marked, low[order], high[order])] if len(order) else []


def _evaluations(runs: Sequence[RunFiles], unit: str) -> list[Block]:
    """The held-out figures as a table, evenly thinned where there are many."""
    found = []
    for run in runs:
        last = len(run.evaluations["step"]) - 1
        places = sorted({*range(0, last, -(-last // _MOST_ROWS) or 1), last}) if last >= 0 else []
        found += [(run.label, score) for at in places if (score := run.score(unit, at))]
    if not found:
        return []
    columns = [
        Column("", [score.step for _, score in found], Unit("step")),
        Column("", [score.tokens for _, score in found], Unit("tokens")),
        Column("", [score.seconds for _, score in found], Unit("seconds", decimals=1)),
        Column("", [score.loss for _, score in found], Unit(unit, decimals=3)),
    ]
    rights = [score.right for _, score in found]
    columns += [Column("", rights, _RIGHT)] if any(rights) else []
    label = "The held-out figures"
    return [Details(label, [results_table(label, "Network", [name for name, _ in found], columns)])]


def plan(runs: Sequence[RunFiles], source: Source) -> Section | None:
    """Planned beside measured memory and time, and the plan by part."""
    if not any(run.planned("peak_bytes") or run.planned("seconds") for run in runs):
        return None
    drawn = []
    for key, title, unit_of in (
        ("peak_bytes", "Peak memory", bytes_unit),
        ("seconds", "Training time", seconds_unit),
    ):
        planned, found = [run.planned(key) for run in runs], [run.measured(key) for run in runs]
        unit = unit_of([*planned, *found])
        names = [run.label for run in runs]
        drawn.append(track_figure(f"plan-{key}", title, names, found, unit, planned=planned))
    note = (
        "Planned before step 1 from the settings and a short probe of the machine; measured at the end. "
        "Memory is the peak of the process above its state after the imports. "
        "Beside each pair, the ratio measured / planned."
    )
    return Section(
        "plan",
        plan_finding(runs),
        [Figures(drawn), Text(note, "muted", source("plan.json")), *_parts(runs), *_machine(runs)],
    )


def _parts(runs: Sequence[RunFiles]) -> list[Block]:
    """The planned memory by part, a column for each run."""
    parts = {
        run.label: {**found, "at the peak": run.plan.get("peak_bytes")}
        for run in runs
        if isinstance(found := run.plan.get("bytes"), Mapping)
    }
    # The longest first: a part that one plan lacks keeps its place among the others.
    keys = list(
        dict.fromkeys(key for found in sorted(parts.values(), key=len, reverse=True) for key in found)
    )
    values = {name: [number(found.get(key)) for key in keys] for name, found in parts.items()}
    unit = bytes_unit(value for column in values.values() for value in column)
    unit = Unit(unit.name, unit.size, max(unit.decimals, 1))
    columns = [Column(name, column, unit) for name, column in values.items()]
    label = "Planned memory"
    names = [str(key).replace("_", " ") for key in keys]
    return [results_table(label, f"{label}\n{unit.name}", names, columns)] if columns else []


def _machine(runs: Sequence[RunFiles]) -> list[Block]:
    """What the probe found on the machine of the best run that has it."""
    probed = [found for run in runs if isinstance(found := run.plan.get("hardware"), Mapping) and found]
    if not probed:
        return []
    values = list(flatten(probed[0]).items())[:60]
    rows = [[key.replace("_", " "), text[:200]] for key, value in values for text in _texts(key, value)]
    return [Details("The machine, as probed before the run", [Table("The machine", ["", "Value"], rows, 99)])]


def _texts(key: str, value: object) -> list[str]:
    """A value of the probe in words; a list of measurements has a line for each."""
    if isinstance(value, list):
        return [text for one in value for text in _texts(key, one)] or ["none"]
    if isinstance(value, Mapping):
        return [", ".join(f"{name} {text}" for name, one in value.items() for text in _texts(str(name), one))]
    known = number(value)
    if known is not None and key.endswith("bytes"):
        return [bytes_text(known)]
    return [figures(value) if isinstance(value, float) else str(value)]


def speed(runs: Sequence[RunFiles], source: Source) -> Section | None:
    """Tokens per second and the share of the machine's peak: the mean and nine steps in ten."""
    rates, shares = [_rate(run) for run in runs], [_rate(run, "peak_fraction") for run in runs]
    known = sorted((-rate.value, at) for at, rate in enumerate(rates) if rate)
    if not known:
        return None
    names, peak = [run.label for run in runs], "Share of the measured matmul rate"
    drawn = [
        track_figure("speed-tokens", "Tokens per second", names, rates, Unit("tokens/s")),
        track_figure("speed-peak", peak, names, shares, PERCENT),
    ]
    heading = f"{named(runs[known[0][1]], first=True)} trains at {figures(-known[0][0])} tokens/s"
    if len(known) > 1:
        heading += f", {figures(known[0][0] / known[1][0])} times as fast as {named(runs[known[1][1]])}"
    note = "Disc: the mean over the time of training. Whiskers: nine steps in ten."
    return Section("speed", heading, [Figures(drawn), Text(note, "muted", source("metrics.jsonl"))])


def _rate(run: RunFiles, key: str = "tokens_per_second") -> Measured | None:
    """The mean rate of a run over its time, and the 5th to the 95th percentile of its steps.

    Steps are alike in tokens: the mean over time is the harmonic one, all tokens by all seconds.
    """
    rates = run.steps[key]
    known = rates[np.isfinite(rates) & (rates > 0)]
    if not len(known):
        return None
    low, high = np.percentile(known, [5, 95]).tolist()
    return Measured(len(known) / float((1 / known).sum()), (low, high))


def cards(runs: Sequence[RunFiles]) -> Section | None:
    """The model cards; the best network's is open."""
    written = [run for run in runs if run.card.strip()]
    blocks = [Details(run.label, card(run.card), unfolded=run is written[0]) for run in written]
    heading = "Where each model came from" if len(written) > 1 else "Where the model came from"
    return Section("cards", heading, blocks) if blocks else None


def settings(runs: Sequence[RunFiles]) -> Section | None:
    """What differs between the runs' settings, and all of them to unfold."""
    written = [run for run in runs if run.settings]
    if not written:
        return None
    keys = dict.fromkeys(key for run in written for key in run.settings)
    rows: list[list[Cell]] = [[key, *(_setting(run.settings.get(key)) for run in written)] for key in keys]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    header: list[Cell] = ["Setting", *(run.label for run in written)]
    heading = f"{len(rows)} settings, defaults included"
    if len(written) > 1:
        heading = f"The networks differ in {len(differing)} of {len(rows)} settings"
    blocks: list[Block] = [Table("Settings that differ", header, differing, 99)] if differing else []
    everything = Details(f"All {len(rows)} settings", [Table("All settings", header, rows, 99)])
    return Section("settings", heading, [*blocks, everything])


def _setting(value: object) -> str:
    shown = "\u2013" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shown if len(shown) <= 120 else shown[:119] + "\u2026"


def commands(runs: Sequence[RunFiles], name: str, *, demo: str, samples: Mapping[str, object]) -> Section:
    """The commands that make it again: the demo, the runs, the completions, this page.

    `name` is the page's folder; the commands are for the folder above it.
    """
    places = {run.name: name if run.name == name else f"{name}/runs/{run.name}" for run in runs}
    lines = [f"{demo} --out {shlex.quote(name)}"] if demo else []
    for run in runs:
        data, file = run.settings.get("data.train"), f"{places[run.name]}/settings.toml"
        if isinstance(data, str):
            lines.append(
                shlex.join(["seedbed", "pretrain", data, "--settings", file, "--out", f"again/{run.name}"])
            )
    lines += generate_commands(samples, runs[0].name, places[runs[0].name])
    lines.append(f"seedbed report {shlex.quote(name)}")
    note = f"For the folder above {name}; a training takes every setting from the file that its run wrote."
    return Section(
        "commands", "Commands that make this again", [Text("\n".join(lines), "code"), Text(note, "muted")]
    )
