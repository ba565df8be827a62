"""The sections of a report on runs: the table of all, loss curves, cost, cards, settings, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from seedbed.base.settings import flatten
from seedbed.base.units import bytes_text
from seedbed.report.charts import Line, line_figure
from seedbed.report.completions import generate_commands
from seedbed.report.findings import comparable, curves_finding, held_out_data, plan_finding
from seedbed.report.page import Block, Column, Details, Figures, Section, Table, Text, results_table
from seedbed.report.run_files import RunFiles
from seedbed.report.scales import Values
from seedbed.report.tracks import track_figure
from seedbed.report.tuning import trained_text
from seedbed.report.units import PERCENT, Measured, Unit, bytes_unit, count_unit, number, seconds_unit, table

_MOST_LINES, _MOST_LABELS = 7, 12
_MOST_CARD_LETTERS = 20_000


def glance(runs: Sequence[RunFiles], unit: str) -> Table:
    """The table of all runs: score, size, cost."""
    scores = [run.score(unit) for run in runs]
    losses, rights = [s.loss if s else None for s in scores], [s.right if s else None for s in scores]
    parameters, tokens = [run.planned("parameters") for run in runs], [run.tokens for run in runs]
    seconds, peaks = [run.seconds for run in runs], [run.measured("peak_bytes") for run in runs]
    speeds = [rate.value if rate else None for rate in map(_rate, runs)]
    columns = [Column("Accuracy", rights, PERCENT, "high")] if any(rights) else []
    for key, name in (
        ("majority_share", "Most frequent label"),
        ("macro_f1", "Macro-F1"),
        ("entity_f1", "Entity F1"),
    ):
        found = [run.figure(key) for run in runs]
        columns += (
            [Column(name, found, PERCENT, "" if key == "majority_share" else "high")] if any(found) else []
        )
    columns += [
        Column("Held-out", losses, Unit(unit, decimals=3), "low" if comparable(runs) else ""),
        Column("Size", parameters, count_unit(parameters, "parameters")),
        Column("Trained on", tokens, count_unit(tokens, "tokens")),
        Column("Training time", seconds, seconds_unit(seconds), "low"),
        Column("Peak memory", peaks, bytes_unit(peaks), "low"),
        Column("Speed", speeds, Unit("tokens/s"), "high"),
    ]
    return results_table("The networks at a glance", "Network", [run.label for run in runs], columns)


def curves(runs: Sequence[RunFiles], unit: str, command: str) -> Section:
    """Training and held-out loss of the runs, over tokens and over seconds; labels that are right."""
    # Both losses of every network where seven lines are enough, else the one that networks are compared by.
    losses = {"held-out": RunFiles.held_out}
    losses |= {"training": RunFiles.training} if 2 * len(runs) <= _MOST_LINES else {}
    loss, tokens = Unit(unit, decimals=2), count_unit((run.tokens for run in runs), "tokens")
    seconds = seconds_unit(run.seconds for run in runs)
    by_tokens, by_time = (
        [_line(run, kind, axis, losses[kind](run, unit)) for kind in losses for run in runs]
        for axis in ("tokens", "seconds")
    )
    right = [
        _line(
            run, "held-out", "tokens", *(run.evaluations[f"accuracy{end}"] for end in ("", " low", " high"))
        )
        for run in runs
    ]
    time, accuracy = "Loss over training time, evaluations included", f"Accuracy on {held_out_data(runs)}"
    drawn = [
        line_figure("loss-tokens", "Loss over tokens trained on", by_tokens, tokens, loss),
        line_figure("loss-seconds", time, by_time, seconds, loss),
        line_figure("accuracy", accuracy, right, tokens, Unit("% right", 0.01, 1)),
    ]
    found = Figures(drawn) if any(drawn) else Text("No step is written yet.")
    reading = "Heavy lines with points: held-out. "
    if "training" in losses:
        reading += "Thin lines: training, the mean of several steps; bands: their lowest to highest. "
    reading += "Whiskers: 95% intervals." if drawn[-1] else ""
    note = Text(reading, "muted", ("metrics.jsonl", command))
    return Section("curves", curves_finding(runs, unit), [found, note])


def _line(
    run: RunFiles, kind: str, axis: str, y: Values, low: Values | None = None, high: Values | None = None
) -> Line:
    """The part of a run's curve that can be drawn."""
    x = (run.evaluations if kind == "held-out" else run.steps)[axis]
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    line = Line(run.label, kind, x, y, kind == "held-out", low, high)
    return line.part(known[np.argsort(x[known], kind="stable")])


def data(runs: Sequence[RunFiles], command: str) -> Section | None:
    """What was read, trained on and held out."""
    found = {run.label: run.data for run in runs if run.data}
    if not found:
        return None
    rows = {label: _data_rows(facts) for label, facts in found.items()}
    warnings = dict.fromkeys(str(facts["warning"]) for facts in found.values() if facts.get("warning"))
    sizes = [number(facts.get("validation_bytes")) or 0 for facts in found.values()]
    held_out = " to ".join(dict.fromkeys(bytes_text(size) for size in (min(sizes), max(sizes))))
    table = _table("What was read", "", rows)
    blocks: list[Block] = [*map(Text, warnings), table, Text("", "muted", ("data.json", command))]
    too_little = ", too little for a useful figure" if warnings else ""
    return Section("data", f"Held out of the data: {held_out}{too_little}", blocks)


def _data_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """What was read, as a column of a table."""
    rows = {"Files read": f"{number(facts.get('files_read')) or 0:,.0f}"}
    if skipped := [PurePath(str(name)).name for name in facts.get("files_skipped") or ()]:
        rows["Files skipped"] = f"{len(skipped):,}: {', '.join(skipped[:8])}{', ...' * (len(skipped) > 8)}"
    rows["Duplicates left out"] = f"{number(facts.get('duplicates')) or 0:,.0f}"
    for side, name in (("train", "Trained on"), ("validation", "Held out")):
        size, tokens = (number(facts.get(f"{side}_{key}")) or 0 for key in ("bytes", "tokens"))
        rows[name] = f"{bytes_text(size)}, {tokens:,.0f} tokens"
    return rows


def cost(runs: Sequence[RunFiles], command: str) -> Section | None:
    """Planned beside measured memory and time, speed, the plan by part, and the machine."""
    names, drawn = [run.label for run in runs], []
    titles = {"peak_bytes": ("Peak memory", bytes_unit), "seconds": ("Training time", seconds_unit)}
    for key, (title, unit_of) in titles.items():
        plans, found = [run.planned(key) for run in runs], [run.measured(key) for run in runs]
        shown = unit_of([*plans, *found])
        drawn.append(track_figure(f"plan-{key}", title, names, found, shown, planned=plans))
    rates, shares = [_rate(run) for run in runs], [_rate(run, "peak_fraction") for run in runs]
    speed, peak = "Tokens per second, the mean over time", "Share of the machine's measured matmul rate"
    drawn += [
        track_figure("speed-tokens", speed, names, rates, Unit("tokens/s")),
        track_figure("speed-peak", peak, names, shares, PERCENT),
    ]
    trained = [Text(text) for run in runs if (text := trained_text(run))]
    if not any(drawn) and not trained:
        return None
    note = "Ratio: measured / planned. Whiskers: 90% of the steps."
    source = ("plan.json and metrics.jsonl", command)
    blocks: list[Block] = [*trained, Figures(drawn), Text(note, "muted", source)]
    mib = Unit("MiB", 2**20, 1)
    planned = {run.label: part for run in runs if (part := table(run.plan, "bytes"))}
    parts = {
        name: {key: mib.text(number(value)) for key, value in part.items()} for name, part in planned.items()
    }
    blocks += [_table("Planned memory", "Planned memory\nMiB", parts, numeric_from=1)] if parts else []
    for probed in [probe for run in runs if (probe := table(run.plan, "hardware"))][:1]:
        machine = _table("The machine", "", {"Value": flatten(probed)})
        blocks.append(Details("The machine, as probed before the run", [machine]))
    return Section("plan", plan_finding(runs), blocks)


def _table(label: str, first: str, columns: Mapping[Any, Mapping[str, Any]], numeric_from: int = 99) -> Table:
    """A row for each key of any column, in the order of the longest."""
    keys = dict.fromkeys(key for found in sorted(columns.values(), key=len, reverse=True) for key in found)
    rows = [[key, *(_text(found.get(key), key) for found in columns.values())] for key in keys]
    return Table(label, [first, *columns], rows, numeric_from)


def _text(value: object, name: str = "") -> str:
    """A value of a file in words; `name` ends in the unit of a number of bytes."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one, str(key))}" for key, one in value.items())
    if isinstance(value, list):
        return "; ".join(_text(one, name) for one in value) or "none"
    if name.endswith("bytes") and (size := number(value)) is not None:
        return bytes_text(size)
    if isinstance(value, float):
        return f"{value:,.12g}"
    return "\u2013" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


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


def confusion(run: RunFiles) -> Section | None:
    """Which labels of a run's held-out records were taken for which, of the most frequent ones."""
    found = table(run.metrics, "confusion")
    names, counts = found.get("labels"), _square(found.get("counts"))
    if not isinstance(names, list) or counts is None or len(names) != len(counts) or not counts.sum():
        return None
    return confusion_section([*map(str, names)], counts, run.title)


def confusion_section(names: Sequence[str], counts: Values, who: str) -> Section:
    """How often each label was taken for each, counts (n, n), of the most frequent ones."""
    order = np.argsort(-(counts.sum(0) + counts.sum(1)), kind="stable")[:_MOST_LABELS].tolist()
    shown = [str(names[i]) for i in order]
    rows = [
        [name, *(f"{counts[i, j]:,.0f}" for j in order), f"{counts[i].sum():,.0f}"]
        for i, name in zip(order, shown, strict=True)
    ]
    wrong = counts - np.diag(np.diag(counts))
    label, guess = divmod(int(wrong.argmax()), len(wrong))
    most = f"{names[label]} as {names[guess]}, {wrong.max():,.0f} of {counts[label].sum():,.0f} times"
    heading = f"Most often confused: {most}" if wrong.any() else "No label is taken for another"
    left_out = f" The {len(shown)} most frequent of {len(names)} labels." if len(shown) < len(names) else ""
    note = Text(f"Rows: the label; columns: the one that {who} gave.{left_out}", "muted")
    cells = Table("Labels and predicted labels", ["Label", *shown, "All"], rows)
    return Section("confusion", heading, [cells, note])


def _square(cells: object) -> Values | None:
    """The counts of a confusion table (n, n); None where the file has something else."""
    if not isinstance(cells, list):
        return None
    rows = [[number(cell) for cell in row] for row in cells if isinstance(row, list) and None not in row]
    rows = [row for row in rows if len(row) == len(cells) and all(cell is not None for cell in row)]
    return np.array(rows, np.float64) if cells and len(rows) == len(cells) else None


def cards(runs: Sequence[RunFiles]) -> Section | None:
    """The model cards; the best network's is open."""
    written = [run for run in runs if run.card.strip()]
    blocks = [Details(run.label, _card(run.card), unfolded=run is written[0]) for run in written]
    return Section("cards", "Where each model came from", blocks) if blocks else None


def _card(markdown: str) -> list[Block]:
    """The lines of a model card and its table as seedbed writes them, without the metadata for hubs."""
    body = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)[:_MOST_CARD_LETTERS].replace("`", "")
    lines = [line.strip() for line in body.splitlines()]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table = Table("The model card", ["", ""], [row for row in rows if row[0].strip("- ")], 99)
    words = [Text(line.lstrip("# ")) for line in lines if line and not line.startswith("|")]
    return [*words[:2], *([table] if table.rows else []), *words[2:]]


def settings(runs: Sequence[RunFiles]) -> Section | None:
    """What differs between the runs' settings, and all of them to unfold."""
    written = [run for run in runs if run.settings]
    if not written:
        return None
    everything = _table("All settings", "Setting", {run.label: run.settings for run in written})
    rows, header = everything.rows, everything.header
    differing = [row for row in rows if len(set(row[1:])) > 1]
    several = f"The networks differ in {len(differing)} of {len(rows)} settings"
    heading = several if len(written) > 1 else f"{len(rows)} settings, defaults included"
    blocks: list[Block] = [Table("Settings that differ", header, differing, 99)] if differing else []
    return Section("settings", heading, [*blocks, Details(f"All {len(rows)} settings", [everything])])


def commands(runs: Sequence[RunFiles], name: str, *, demo: str, samples: Mapping[str, object]) -> Section:
    """The commands that make it again: the demo, the runs, the completions, this page.

    `name` is the page's folder; the commands are for the folder above it.
    """
    places = {run.name: name if run.name == name else f"{name}/runs/{run.name}" for run in runs}
    lines = [demo] if demo else []
    for run in runs:
        data, file = run.settings.get("data.train"), f"{places[run.name]}/settings.toml"
        if isinstance(data, str):
            verb = ["pretrain", data]
            if (method := run.settings.get("peft.method")) is not None:
                verb = ["tune", str(run.settings.get("model.base")), data, "--peft", str(method)]
            again = ["seedbed", *verb, "--settings", file, "--out", f"again/{run.name}"]
            lines.append(shlex.join(again))
    lines += generate_commands(samples, runs[0].name, places[runs[0].name])
    lines.append(f"seedbed report {shlex.quote(name)}")
    note = f"For the folder above {name}; a training takes every setting from the file that its run wrote."
    return Section(
        "commands", "Commands that reproduce this page", [Text("\n".join(lines), "code"), Text(note, "muted")]
    )
