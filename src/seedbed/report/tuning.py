"""The task of a tuned run: its metrics before and after the training, and answers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seedbed.base.units import part_text
from seedbed.data.fields import WORD
from seedbed.report.answers import short, with_words
from seedbed.report.page import Block, Details, Figures, Name, Sample, Samples, Section, Span, Table, Text
from seedbed.report.run_files import RunFiles
from seedbed.report.scores import metric_title, metric_unit, sentence, value_text
from seedbed.report.tracks import paired_figure
from seedbed.report.units import Measured, number, rows, table

OPEN = 3  # answers; the others unfold
DASH = "\u2013"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A metric of the answers to held-out records: after the training, and if it was measured before.

    `difference` is after minus before, with the interval of the paired bootstrap.
    """

    metric: str
    after: Measured
    before: Measured | None
    difference: Measured | None

    @property
    def title(self) -> str:
        """The metric as papers write it, with a capital first letter."""
        return sentence(metric_title(self.metric))

    def text(self, value: Measured) -> str:
        """A value with its unit."""
        return value_text(self.metric, value.value)

    def interval(self, value: Measured) -> str:
        """The interval of a value behind it; empty without one."""
        if value.interval is None:
            return ""
        low, high = (value_text(self.metric, end) for end in value.interval)
        return f"; 95% interval {low} to {high}"

    def in_words(self) -> str:
        """The difference with its interval; empty without one."""
        if self.difference is None:
            return ""
        unit = metric_unit(self.metric)
        name = " percentage points" if unit.name == "%" else f" {unit.name}".rstrip()
        said = f"{self.title} {_signed(self.metric, self.difference.value)}{name}"
        if self.difference.interval is None:
            return f"{said}, without an interval."
        low, high = (_signed(self.metric, end) for end in self.difference.interval)
        return f"{said} (95% interval {low} to {high})."


def _signed(metric: str, value: float) -> str:
    text = metric_unit(metric).text(value)
    return text if text.startswith("-") else f"+{text}"


def changes(run: RunFiles) -> list[Change]:
    """The metrics of a run's task, the main one first; none of a run without a task."""
    task = table(run.metrics, "task")
    metrics, found = table(task, "metrics"), []
    for name in sorted(metrics, key=lambda name: name != task.get("metric")):
        measured = table(metrics, name)
        if after := Measured.read(measured.get("after")):
            before, difference = (Measured.read(measured.get(key)) for key in ("before", "difference"))
            found.append(Change(metric=str(name), after=after, before=before, difference=difference))
    return found


def is_worse(run: RunFiles) -> bool:
    """Whether a run's answers became worse, so that it kept the base's own weights."""
    return table(run.metrics, "task").get("is_worse") is True


def num_records(run: RunFiles) -> int:
    """How many held-out records of a run's task were answered."""
    return int(number(table(run.metrics, "task").get("num_records")) or 0)


def task_headline(run: RunFiles) -> str:
    """The finding of a run with a task that was measured before and after, as far as it is certain."""
    main = next(iter(changes(run)), None)
    if main is None or main.before is None:
        return ""
    title, before, after = metric_title(main.metric), main.text(main.before), main.text(main.after)
    if is_worse(run):
        return f"{run.title} keeps the base\u2019s weights: training changed {title} from {before} to {after}"
    if run.metrics.get("worked") == "yes":
        return f"{run.title} raises {title} from {before} to {after} on held-out records"
    said = f"{run.title}: {title} {after}, before training {before}"
    few = run.metrics.get("worked") == "too few to say"
    return f"{said}; {'too few records to say more' if few else 'no difference is shown'}"


def task_section(run: RunFiles, command: str) -> Section | None:
    """The metrics of the task as paired marks and in words, and some answers."""
    found = changes(run)
    if not found:
        return None
    main, task = found[0], table(run.metrics, "task")
    blocks: list[Block] = [_figures(run, found), _table(found)]
    if words := [one.in_words() for one in found if one.difference is not None]:
        blocks.append(Text(f"After minus before: {' '.join(words)}"))
    blocks.append(Text(_measured_on(run), "muted", ("metrics.json", command)))
    blocks += _answers(rows(task, "answers"))
    what = sentence(str(task.get("name") or "the task"))
    heading = f"{what}: {metric_title(main.metric)} {main.text(main.after)}"
    if main.before is not None:
        heading += f", before training {main.text(main.before)}"
    return Section(f"task-{run.series or 0}", heading, blocks)


def _measured_on(run: RunFiles) -> str:
    count = num_records(run)
    kept = " The base\u2019s own weights are kept: with the trained ones the answers are worse."
    return f"Answers to {count:,} held-out records.{kept if is_worse(run) else ''}"


def _figures(run: RunFiles, found: list[Change]) -> Figures:
    """A picture for the metrics of each unit."""
    units = list(dict.fromkeys(metric_unit(one.metric) for one in found))
    drawn = []
    for place, unit in enumerate(units):
        pairs = [
            (Name(one.title, run.series), one.before, one.after)
            for one in found
            if metric_unit(one.metric) == unit
        ]
        names = "Metrics of the task" if unit.name == "%" else ", ".join(who.text for who, *_ in pairs)
        drawn.append(paired_figure(f"task-{run.series or 0}-{place}", names, pairs, unit))
    return Figures(drawn)


def _table(found: list[Change]) -> Table:
    """The metrics in figures."""
    has_before = any(one.before is not None for one in found)
    header = ["Metric", "Before", "After"] if has_before else ["Metric", "Value"]
    body = [
        [
            one.title,
            *([_with_interval(one.metric, one.before)] if has_before else []),
            _with_interval(one.metric, one.after),
        ]
        for one in found
    ]
    return Table("The metrics of the task", header, body)


def _with_interval(metric: str, value: Measured | None) -> str:
    if value is None:
        return DASH
    unit = metric_unit(metric)
    ends = "" if value.interval is None else f" ({' to '.join(map(unit.text, value.interval))})"
    return value_text(metric, value.value) + ends


def _answers(answers: list[Mapping[str, Any]]) -> list[Block]:
    """The answers side by side, most of them folded."""
    blocks = [_beside_each_other(place, answer) for place, answer in enumerate(answers, 1)]
    shown = [block for one in blocks[:OPEN] for block in one]
    if folded := [block for one in blocks[OPEN:] for block in one]:
        shown.append(Details(f"{len(blocks) - OPEN} more answers", folded))
    return shown


def _beside_each_other(place: int, answer: Mapping[str, Any]) -> list[Block]:
    """The text of a record over its reference and its answers; tags are behind the words of the text."""
    found = {name: _as_text(answer, name) for name in ("reference", "before", "after")}
    samples = [
        Sample(title, [("", [Span(found[name], look)])])
        for name, title, look in (
            ("reference", "Reference", ""),
            ("before", "Before training", "code"),
            ("after", "After training", "code"),
        )
        if answer.get(name) is not None
    ]
    return [Samples([f"Record {place}"], []), Text(short(answer.get("text")), "prompt"), Samples([], samples)]


def _as_text(answer: Mapping[str, Any], name: str) -> str:
    """A reference or an answer; several references are one below the other."""
    value, text = answer.get(name), answer.get("text")
    if not isinstance(value, list):
        return short(value) if value != "" else "(nothing)"
    has_tags = isinstance(answer.get("after"), list)
    if has_tags and isinstance(text, str) and len(WORD.findall(text)) == len(value):
        return short(with_words({"text": text}, [str(one) for one in value])[1])
    return short(value) if has_tags else "\n".join(map(short, value))


def trained_text(run: RunFiles) -> str:
    """What an adapter trains: its parameters of all, and the settings of its method; empty without one."""
    settings = {
        name.removeprefix("peft."): value for name, value in run.settings.items() if name.startswith("peft.")
    }
    method = settings.pop("method", None)
    if method is None:
        return ""
    trained, whole = run.planned("trainable_parameters"), run.planned("parameters")
    count = f"{part_text(trained, whole)} parameters are trained, " if trained and whole else "Trained "
    own = ", ".join(f"{name} {_setting(value)}" for name, value in settings.items())
    return f"{run.title}: {count}with {method}{': ' if own else ''}{own}."


def _setting(value: object) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
