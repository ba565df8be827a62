"""The report of a run's or a project's folder: one self-contained page from its files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seedbed.base.errors import UsageError, nearest
from seedbed.base.files import write_file
from seedbed.report import families, findings, sections
from seedbed.report.completions import completions_section
from seedbed.report.examples import examples_section
from seedbed.report.markup import NUM_SERIES
from seedbed.report.page import Block, Page, Text
from seedbed.report.run_files import BITS, LABELS, is_run, read_json, read_run
from seedbed.report.units import number

_LOSSES = {
    BITS: "the negative base-2 logarithm of the probability that a network gives a text, by its UTF-8 bytes; "
    "it compares networks with different tokenizers, and lower is better",
    LABELS: "the negative natural logarithm of the probability of the right label; lower is better",
}
_NATS = "the negative natural logarithm of the probability of a text, by its tokens; lower is better"
_TERMS = (
    ("held-out", "kept from training, chosen by the hash of the text"),
    ("planned", "computed before step 1 from the settings and a probe of the machine"),
    (
        "peak memory",
        "the peak of the process, above its state after the imports (1 MiB: 2\u00b2\u2070 bytes)",
    ),
)
_SAMPLING_TERMS = (
    ("temperature", "divides the logits before sampling: 0 takes the most likely token, above 1 flattens"),
    ("top-k", "samples among the k most likely tokens alone"),
    ("top-p", "samples among the smallest set of tokens whose probabilities sum to p"),
)


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder, or a project's with its runs in `runs/`, and return its path.

    A project may have `samples.json` (completions), `families.json` and `demo.json` (`titles` by run,
    `budget_seconds`) too. Whatever a run lacks so far is left out. A folder that is missing or has no run
    raises UsageError, one that cannot be written HardwareError.
    """
    folder = Path(folder)
    target = folder / "report.html"
    write_file(target, render(folder).encode("utf-8"))
    return target


def render(folder: Path) -> str:
    """The page of a run's or a project's folder, as `write_report` writes it."""
    notices: list[str] = []
    demo, samples, kinds = (_optional(folder / f"{n}.json", notices) for n in ("demo", "samples", "families"))
    titles = demo.get("titles")
    names = titles if isinstance(titles, Mapping) else {}
    runs = [read_run(path, names.get(path.name)) for path in _run_folders(folder)]
    unit = findings.common_unit(runs)
    runs = findings.ranked(runs, unit)
    best = runs[:NUM_SERIES]
    name = folder.resolve().name
    first: list[Block] = [sections.glance(runs, unit)]
    if len(runs) > NUM_SERIES:
        first.append(Text(f"The sections below are about the best {NUM_SERIES} of {len(runs)} networks."))
    inside = "" if is_run(folder) else "runs/*/"

    def source(file: str) -> tuple[str, str]:
        return f"{inside}{file}", f"seedbed report {shlex.quote(name)}"

    labels = {run.name: run.label for run in best}
    written = completions_section(samples, labels)
    parts = [
        families.families_section(kinds, labels),
        sections.curves(best, unit, source),
        sections.plan(best, source),
        sections.speed(best, source),
        written,
        examples_section(best),
        sections.cards(best),
        sections.settings(best),
        sections.commands(best, name, demo=_demo_command(demo, kinds), samples=samples),
    ]
    return Page(
        subject=name,
        title=families.finding(kinds) or findings.headline(runs, unit),
        circumstances=findings.circumstances(runs, unit),
        answers=findings.answers(runs, unit),
        notices=[*(f"{run.title}: {notice}" for run in runs for notice in run.notices), *notices][:12],
        first=first,
        sections=parts,
        terms=[(unit, _LOSSES.get(unit, _NATS)), *_TERMS, *(_SAMPLING_TERMS if written else ())],
    ).html()


def _optional(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """The object of a file, an empty one where it does not exist."""
    return read_json(path, notices) if path.exists() else {}


def _demo_command(demo: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """The demo that made a project; empty where it was made otherwise."""
    budget = number(demo.get("budget_seconds"))
    return f"seedbed demo{' --families' if kinds else ''} --budget {budget:g}s" if budget else ""


def _run_folders(folder: Path) -> list[Path]:
    """A run's own folder, or those of the runs in `runs/`."""
    if not folder.is_dir():
        around = (
            [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        )
        hint = nearest(folder.name, around) if around else "give the folder of a run or of a project"
        raise UsageError(f"there is no folder {folder}; {hint}")
    if is_run(folder):
        return [folder]
    inner = folder / "runs"
    found = sorted(path for path in inner.iterdir() if is_run(path)) if inner.is_dir() else []
    if not found:
        raise UsageError(
            f"{folder} contains no run: a run's folder has settings.toml, plan.json or metrics.jsonl, "
            "a project's has runs/NAME; give such a folder, or make a run with `seedbed pretrain`"
        )
    return found
