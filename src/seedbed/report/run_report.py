"""The report of a run's or a project's folder: one self-contained page from its files."""

from __future__ import annotations

import shlex
from pathlib import Path

from seedbed.base.errors import UsageError, nearest
from seedbed.base.files import write_file
from seedbed.report import families, findings, sections
from seedbed.report.completions import completions_section
from seedbed.report.examples import examples_section
from seedbed.report.page import NUM_SERIES, Block, Page, Text
from seedbed.report.run_files import is_run, read_json, read_run
from seedbed.report.tuning import task_section
from seedbed.report.units import number, table

_TRAINED_ONCE = "Each was trained once: another seed would change the figures a little."


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder, or a project's with its runs in `runs/`, and return its path.

    A project may have `samples.json` (completions), `families.json` and `demo.json` (`titles` by run,
    `budget_seconds`) too. Whatever a run lacks so far is left out. A folder that is missing or has no run
    raises UsageError, one that cannot be written HardwareError.
    """
    target = folder / "report.html"
    write_file(target, render(folder).encode("utf-8"))
    return target


def render(folder: Path) -> str:
    """The page of a run's or a project's folder, as `write_report` writes it."""
    notices: list[str] = []
    files = (folder / f"{name}.json" for name in ("demo", "samples", "families"))
    demo, samples, kinds = (read_json(file, notices) if file.exists() else {} for file in files)
    titles = table(demo, "titles")
    runs = [read_run(path, str(titles.get(path.name, ""))) for path in _run_folders(folder)]
    unit = findings.common_unit(runs)
    runs = findings.ranked(runs, unit)
    best = runs[:NUM_SERIES]
    name = folder.resolve().name
    command = f"seedbed report {shlex.quote(name)}"
    first: list[Block] = [sections.glance(runs, unit)]
    if len(runs) > NUM_SERIES:
        first.append(Text(f"The sections below are about the best {NUM_SERIES} of {len(runs)} networks."))
    budget, kind = number(demo.get("budget_seconds")), " --families" if kinds else ""
    made = f"seedbed demo{kind} --budget {budget:g}s --out {shlex.quote(name)}" if budget else ""
    labels = {run.name: run.label for run in best}
    written = completions_section(samples, labels)
    labels_terms = ("most frequent label", "macro-F1") if any(run.labelled for run in best) else ()
    sampling = ("temperature", "top-k", "top-p") if written else ()
    parts = [
        families.families_section(kinds, labels),
        *(task_section(run, command) for run in best),
        sections.curves(best, unit, command),
        sections.confusion(best[0]),
        sections.data(best, command),
        sections.cost(best, command),
        written,
        examples_section(best),
        sections.cards(best),
        sections.settings(best),
        sections.commands(best, name, demo=made, samples=samples),
    ]
    return Page(
        subject=name,
        title=families.finding(kinds) or findings.headline(runs, unit),
        circumstances=_TRAINED_ONCE if len(runs) > 1 else "",
        answers=[
            findings.did_it_work(runs, unit),
            findings.how_well(runs, unit),
            findings.what_it_cost(runs),
        ],
        notices=[*(f"{run.title}: {notice}" for run in runs for notice in run.notices), *notices][:12],
        first=first,
        sections=parts,
        terms=[unit, "held-out", "95% interval", *labels_terms, "planned", "peak memory", *sampling],
    ).html()


def _run_folders(folder: Path) -> list[Path]:
    """A run's own folder, or those of the runs in `runs/`."""
    if not folder.is_dir():
        around = [path.name for path in folder.parent.glob("[!.]*/")]
        hint = nearest(folder.name, around) if around else "give the folder of a run or of a project"
        raise UsageError(f"{folder} does not exist; {hint}")
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
