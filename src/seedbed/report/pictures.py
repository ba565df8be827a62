"""The sections of a report that draw: loss curves, planned against measured, speed; and their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seedbed.base.settings import flatten
from seedbed.report.charts import (
    MOST_STRETCHES,
    Caption,
    Line,
    Mark,
    Track,
    line_chart,
    spanning,
    track_chart,
)
from seedbed.report.findings import comparable, curves_finding, listed, named, plan_finding
from seedbed.report.markup import Child, Markup, element, join
from seedbed.report.page import details, figure, inline_code, panels, paragraph, section, swatch, table
from seedbed.report.run_files import BITS, RunFiles
from seedbed.report.scales import Values
from seedbed.report.units import Unit, bytes_unit, count_unit, figures, number, seconds_unit

_MOST_LINES = 7
_MOST_ROWS = 16


def glance(runs: Sequence[RunFiles], unit: str) -> Markup:
    """The table of all runs: score, size, cost; the best of each column that has a best is bold."""
    columns: list[tuple[Child, list[str], str | None]] = []

    def column(
        header: str, values: Sequence[float | None], unit: Unit, best: Callable[..., float] | None
    ) -> None:
        known = [value for value in values if value is not None]
        winner = unit.text(best(known)) if best and len({unit.text(value) for value in known}) > 1 else None
        named = join([header, " ", element("span", unit.name, class_="unit")])
        columns.append((named, [unit.text(value) for value in values], winner))

    scores = [score.value if (score := run.score(unit)) else None for run in runs]
    column("Held-out", scores, Unit(unit, 1, 3), min if comparable(runs) else None)
    parameters = [run.planned("parameters") for run in runs]
    column("Size", parameters, count_unit(_most(parameters), "parameters"), None)
    column(
        "Trained on",
        [run.tokens for run in runs],
        count_unit(_most([run.tokens for run in runs]), "tokens"),
        None,
    )
    seconds = [run.seconds for run in runs]
    column("Training time", seconds, seconds_unit(_most(seconds)), min)
    peaks = [run.measured("peak_bytes") for run in runs]
    column("Peak memory", peaks, bytes_unit(_most(peaks)), min)
    speeds = [spread[1] if (spread := _spread(run.steps["tokens_per_second"])) else None for run in runs]
    column("Speed", speeds, Unit("tokens/s", 1), max)
    rows: list[list[Child]] = []
    for index, run in enumerate(runs):
        cells = [
            element("b", texts[index]) if winner == texts[index] else texts[index]
            for _, texts, winner in columns
        ]
        rows.append([swatch(index, run.title), *cells])
    header: list[Child] = ["Network", *(name for name, _, _ in columns)]
    return element("div", table(header, rows, label="The networks at a glance"), class_="wide-table")


def _most(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


def curves(runs: Sequence[RunFiles], unit: str, origin: Child) -> Markup:
    """Training and held-out loss of the runs, over tokens and over seconds."""
    heading = curves_finding(runs, unit)
    # Both losses of every network where seven lines suffice, else the one that networks are compared by.
    kinds = ("held-out", "training") if 2 * len(runs) <= _MOST_LINES else ("held-out",)
    tokens = count_unit(_most([run.tokens for run in runs]), "tokens")
    seconds = seconds_unit(_most([_longest(run) for run in runs]))
    pictures: list[Child] = []
    scale = None
    for axis, along in (("tokens", tokens), ("seconds", seconds)):
        lines = [
            line
            for kind in kinds
            for index, run in enumerate(runs)
            if (line := _line(run, index, kind, axis, along, unit))
        ]
        if not lines:
            continue
        log_x = _wide_range(lines)
        scale = scale or spanning(lines, log_x)
        name = f"Loss over {axis}"
        caption = Caption(f"loss-{axis}", f"{name}, {unit}", _description(lines, along, unit))
        picture = line_chart(
            lines, caption=caption, x_label=along.name, y_label=unit, y_scale=scale, log_x=log_x
        )
        pictures.append(figure(picture, _curves_caption(name, axis)))
    if not pictures:
        return section("curves", heading, paragraph("No step has been written down yet."))
    return section(
        "curves",
        heading,
        panels(*pictures),
        _reading(runs, kinds, unit, origin),
        _evaluations(runs, unit),
    )


def _longest(run: RunFiles) -> float | None:
    ends = np.concatenate([run.steps["seconds"], run.evaluations["seconds"]])
    return float(np.nanmax(ends)) if np.isfinite(ends).any() else None


def _line(run: RunFiles, index: int, kind: str, axis: str, along: Unit, unit: str) -> Line | None:
    """One loss of one run over one axis; None where nothing of it can be drawn."""
    held_out = kind == "held-out"
    columns = run.evaluations if held_out else run.steps
    x, y = columns[axis] / along.size, run.held_out(unit) if held_out else run.training(unit)
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    order = known[np.argsort(x[known], kind="stable")]
    if not len(order):
        return None
    low, high = (columns[end][order] for end in ("low", "high"))
    whole = held_out and bool(np.isfinite(low).all() and np.isfinite(high).all())
    return Line(
        run.title,
        kind,
        index,
        x[order],
        y[order],
        marked=held_out,
        low=low if whole else None,
        high=high if whole else None,
    )


def _wide_range(lines: Sequence[Line]) -> bool:
    """Whether the axis spans ratios that only a logarithm shows: twentyfold and more."""
    above = np.concatenate([line.x[line.x > 0] for line in lines])
    return len(above) > 1 and float(above.max()) >= 20 * float(above.min())


def _description(lines: Sequence[Line], along: Unit, unit: str) -> str:
    ends = [f"{line.label} {line.note} from {line.y[0]:.2f} to {line.y[-1]:.2f}" for line in lines]
    return f"{listed(ends)} {unit}, over {max(float(line.x[-1]) for line in lines):,.3g} {along.name}."


def _curves_caption(name: str, axis: str) -> str:
    return f"{name} trained on." if axis == "tokens" else "Loss over training time, evaluations counted."


def _reading(runs: Sequence[RunFiles], kinds: Sequence[str], unit: str, origin: Child) -> Markup:
    """How to read both pictures, and where their figures come from."""
    parts: list[Child] = ["Heavy lines with points: held-out text."]
    if "training" in kinds:
        parts.append(" Thin lines: training.")
        if max(len(run.steps["step"]) for run in runs) > MOST_STRETCHES:
            parts.append(" Each point is the mean of a stretch of steps, the band their lowest to highest.")
        if unit == BITS:
            parts.append(" Training loss is told in bits per byte by the held-out text's tokens per byte.")
    return paragraph(*parts, " ", origin, class_="muted")


def _evaluations(runs: Sequence[RunFiles], unit: str) -> Markup | None:
    """The held-out figures as a table, evenly thinned where there are many."""
    rows: list[list[Child]] = []
    for index, run in enumerate(runs):
        count = len(run.evaluations["step"])
        places = np.linspace(0, count - 1, min(count, _MOST_ROWS)).tolist()
        for at in sorted({round(place) for place in places}):
            score = run.score(unit, at)
            assert score is not None
            rows.append(
                [
                    swatch(index, run.title),
                    f"{score.step:,}",
                    f"{score.tokens:,.0f}",
                    f"{score.seconds:,.1f}",
                    f"{score.value:.3f}",
                ]
            )
    if not rows:
        return None
    header = ["Network", "step", "tokens", "seconds", unit]
    return details("The held-out figures", table(header, rows, label="The held-out figures"))


def plan(runs: Sequence[RunFiles], origin: Child) -> Markup | None:
    """Planned beside measured memory and time, and the plan by part."""
    planned = [run for run in runs if run.planned("peak_bytes") or run.planned("seconds")]
    if not planned:
        return None
    pictures = [
        _pairs(runs, planned, "peak_bytes", "Peak memory", bytes_unit),
        _pairs(runs, planned, "seconds", "Training time", seconds_unit),
    ]
    note = paragraph(
        "Planned before step 1 from the settings and a short probe of the machine; measured at the end.",
        " Memory is the most that the process held, beyond what it held when the run began. ",
        "Beside each pair, the ratio measured / planned. ",
        origin,
        class_="muted",
    )
    return section(
        "plan", plan_finding(planned), panels(*pictures), note, _parts(runs, planned), _machine(planned)
    )


def _pairs(
    runs: Sequence[RunFiles], drawn: Sequence[RunFiles], key: str, noun: str, unit_of: Callable[[float], Unit]
) -> Markup | None:
    """One picture of paired marks: the ring is the plan, the disc the measurement."""
    pairs = [(run, run.planned(key), run.measured(key)) for run in drawn]
    unit = unit_of(_most([value for _, planned, measured in pairs for value in (planned, measured)]))
    tracks = []
    for run, planned, measured in pairs:
        marks = [Mark(planned / unit.size, measured=False)] if planned is not None else []
        marks += [Mark(measured / unit.size)] if measured is not None else []
        ratio = run.ratio(key)
        written = f"ratio {ratio:.2f}" if ratio is not None else "not measured yet"
        if marks:
            tracks.append(
                Track(
                    run.title,
                    f"{unit.text(planned)} \u2192 {unit.text(measured)}, {written}",
                    runs.index(run),
                    tuple(marks),
                )
            )
    if not tracks:
        return None
    description = "; ".join(f"{track.label}: {track.note}" for track in tracks)
    caption = Caption(
        f"plan-{key.replace('_', '-')}", f"{noun}, planned and measured, {unit.name}", f"{description}."
    )
    return figure(
        track_chart(tracks, caption=caption, x_label=unit.name, key=True), f"{noun}: planned \u2192 measured."
    )


def _parts(runs: Sequence[RunFiles], planned: Sequence[RunFiles]) -> Markup | None:
    """The planned memory by part, a column for each run."""
    tables = [(run, parts) for run in planned if isinstance(parts := run.plan.get("bytes"), Mapping)]
    # The longest first: a part that one plan lacks keeps its place among the others.
    longest = sorted((parts for _, parts in tables), key=len, reverse=True)
    names = list(dict.fromkeys(str(name) for parts in longest for name in parts))
    known = [value for _, parts in tables for value in map(number, parts.values()) if value is not None]
    if not names or not known:
        return None
    unit = bytes_unit(max(known))
    unit = Unit(unit.name, unit.size, max(unit.decimals, 1))
    rows: list[list[Child]] = [
        [name.replace("_", " "), *(unit.text(number(parts.get(name))) for _, parts in tables)]
        for name in names
    ]
    peaks = [unit.text(run.planned("peak_bytes")) for run, _ in tables]
    rows.append(["at the peak", *(element("b", peak) for peak in peaks)])
    header: list[Child] = [
        join(["Planned memory ", element("span", unit.name, class_="unit")]),
        *(swatch(runs.index(run), run.title) for run, _ in tables),
    ]
    return table(header, rows, label="Planned memory by part")


def _machine(planned: Sequence[RunFiles]) -> Markup | None:
    """What the probe found on the machine of the best run."""
    hardware = planned[0].plan.get("hardware")
    if not isinstance(hardware, Mapping) or not hardware:
        return None
    rows: list[list[Child]] = []
    for key, value in list(flatten(hardware).items())[:60]:
        rows.append([key.replace("_", " "), figures(value) if isinstance(value, float) else str(value)[:200]])
    return details("The machine, as probed before the run", table(["", "Value"], rows, label="The machine"))


def speed(runs: Sequence[RunFiles], origin: Child) -> Markup | None:
    """Tokens a second and the share of the machine's peak: the mean and nine steps in ten."""
    rates = _spreads(runs, "tokens_per_second", 1.0)
    if not rates:
        return None
    pictures = [_intervals(runs, rates, "speed-tokens", "Tokens a second", "tokens/s", 0)]
    shares = _spreads(runs, "peak_fraction", 100.0)
    if shares:
        pictures.append(
            _intervals(runs, shares, "speed-peak", "Share of the measured matrix-multiply rate", "percent", 1)
        )
    note = paragraph(
        "Disc: the mean over the time of training. Whiskers: nine steps in ten. ", origin, class_="muted"
    )
    return section("speed", _speed_finding(runs, rates), panels(*pictures), note)


def _spread(rates: Values) -> tuple[float, float, float] | None:
    """The 5th percentile of steps' rates, their mean over time, the 95th percentile; None of nothing.

    Steps are alike in tokens, so that the mean over time is the harmonic one: all tokens by all seconds.
    """
    known = rates[np.isfinite(rates) & (rates > 0)]
    if not len(known):
        return None
    low, high = np.percentile(known, [5, 95]).tolist()
    return low, len(known) / float((1 / known).sum()), high


def _spreads(runs: Sequence[RunFiles], name: str, factor: float) -> dict[int, tuple[float, float, float]]:
    found = {index: _spread(run.steps[name] * factor) for index, run in enumerate(runs)}
    return {index: spread for index, spread in found.items() if spread}


def _intervals(
    runs: Sequence[RunFiles],
    spreads: Mapping[int, tuple[float, float, float]],
    name: str,
    noun: str,
    unit: str,
    decimals: int,
) -> Markup:
    tracks = [
        Track(
            runs[index].title,
            f"{middle:,.{decimals}f} ({low:,.{decimals}f} to {high:,.{decimals}f})",
            index,
            (Mark(middle, interval=(low, high)),),
        )
        for index, (low, middle, high) in spreads.items()
    ]
    description = "; ".join(f"{track.label}: {track.note} {unit}" for track in tracks)
    caption = Caption(name, f"{noun}, {unit}", f"{description}.")
    return figure(track_chart(tracks, caption=caption, x_label=unit), f"{noun}.")


def _speed_finding(runs: Sequence[RunFiles], rates: Mapping[int, tuple[float, float, float]]) -> str:
    order = sorted(rates, key=lambda index: -rates[index][1])
    fastest = order[0]
    said = f"{named(runs[fastest], first=True)} trains at {figures(rates[fastest][1])} tokens/s"
    if len(order) < 2 or not rates[order[1]][1]:
        return said
    return (
        f"{said}, {figures(rates[fastest][1] / rates[order[1]][1])} times as fast as {named(runs[order[1]])}"
    )


def origin_of(folder: str, *, several: bool, file: str) -> Markup:
    """Which files figures come from, and the command that draws them, for the captions."""
    link = element("a", "the commands that trained are below", href="#commands")
    files = inline_code(f"runs/*/{file}" if several else file)
    return join(["From ", files, " by ", inline_code(f"seedbed report {folder}"), "; ", link, "."])
