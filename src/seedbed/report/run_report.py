"""The report of a run's or a project's folder: one self-contained page from the files that lie there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedbed import __version__
from seedbed.base.errors import UsageError, nearest
from seedbed.base.files import write_file
from seedbed.report import families, findings, pictures, words
from seedbed.report.examples import example_sections
from seedbed.report.findings import Answer
from seedbed.report.markup import Markup, element
from seedbed.report.page import page, paragraph
from seedbed.report.palette import NUM_SERIES
from seedbed.report.run_files import RunFiles, is_run, read_json, read_run

_SIGNS = {"good": "\u2713 ", "warning": "\u25b3 ", "bad": "\u2715 ", "plain": ""}


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder or a project's, whose runs lie in `runs/`, and return its path.

    A project may hold `samples.json` (completions) and `demo.json` (`titles` by run, `budget_seconds`) too.
    Whatever a run lacks so far is left out. A folder that is missing or holds no run raises UsageError,
    one that cannot be written HardwareError.
    """
    folder = Path(folder)
    target = folder / "report.html"
    write_file(target, render(folder).encode("utf-8"))
    return target


def render(folder: Path) -> str:
    """The page of a run's or a project's folder, as `write_report` writes it."""
    notices: list[str] = []
    demo = _optional(folder / "demo.json", notices)
    titles = demo.get("titles")
    names = titles if isinstance(titles, Mapping) else {}
    runs = [read_run(path, _title(names.get(path.name))) for path in _run_folders(folder)]
    unit = findings.common_unit(runs)
    runs = findings.ranked(runs, unit)
    notices += [f"{run.title}: {notice}" for run in runs for notice in run.notices]
    samples = _optional(folder / "samples.json", notices)
    name = folder.resolve().name
    several = not is_run(folder)
    metrics = pictures.origin_of(name, several=several, file="metrics.jsonl")
    plans = pictures.origin_of(name, several=several, file="plan.json")
    compared = _optional(folder / "families.json", notices)
    title = families.finding(compared) or findings.headline(runs, unit)
    best = runs[:NUM_SERIES]
    completions = words.completions(samples, best)
    return page(
        title,
        *_first_screen(runs, unit, title, name, notices),
        families.families_section(compared, best),
        pictures.curves(best, unit, metrics),
        pictures.plan(best, plans),
        pictures.speed(best, metrics),
        completions,
        example_sections(best),
        words.cards(best),
        words.settings(best),
        words.how_made(best, demo, samples, name),
        words.terms(unit, sampled=completions is not None),
        words.origin_note(__version__),
    )


def _optional(path: Path, notices: list[str]) -> Mapping[str, Any]:
    """What a file of the project says, nothing where there is none."""
    return read_json(path, notices) if path.exists() else {}


def _title(title: Any) -> str | None:
    """A run's name on the page, where the project has one for it."""
    return title.strip() if isinstance(title, str) and title.strip() else None


def _first_screen(
    runs: Sequence[RunFiles], unit: str, title: str, name: str, notices: Sequence[str]
) -> list[Markup | None]:
    """The finding, the answers to the three questions, what is missing, and the table of all runs."""
    answers = [
        findings.did_it_work(runs, unit),
        findings.how_well(runs, unit),
        findings.what_it_cost(runs),
    ]
    missing = element("ul", *(element("li", notice) for notice in notices[:12]), class_="notices")
    return [
        element("p", f"seedbed report: {name}", class_="eyebrow"),
        element("h1", title),
        paragraph(findings.circumstances(runs, unit), class_="lede"),
        element("dl", *(_answer(answer) for answer in answers), class_="answers"),
        missing if notices else None,
        pictures.glance(runs, unit),
        paragraph(f"What follows is about the best {NUM_SERIES} of {len(runs)} networks.")
        if len(runs) > NUM_SERIES
        else None,
    ]


def _answer(answer: Answer) -> Markup:
    verdict = element("dd", _SIGNS[answer.mood] + answer.verdict, class_=f"verdict {answer.mood}")
    lines = (element("dd", line) for line in answer.lines)
    return element("div", element("dt", answer.question), verdict, *lines, class_="answer")


def _run_folders(folder: Path) -> list[Path]:
    """The run that a folder is, or the runs that lie in its `runs/`."""
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
            f"{folder} holds no run: a run's folder has settings.toml, plan.json or metrics.jsonl, "
            "a project's has runs/NAME; give such a folder, or make a run with `seedbed pretrain`"
        )
    return found
