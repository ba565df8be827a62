"""What the benchmarks share: timing, ratios, tables, the command line, and flags of `seedbed pretrain`."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the rounds' ratios ours / theirs, so that a drift of the machine affects both."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def machine() -> dict[str, Any]:
    """Return the processor on which the figures were measured."""
    from seedbed.base.hardware import cpu_name, instructions, num_cores

    return {"cpu": cpu_name(), "instructions": instructions(), "num_cores": num_cores()}


def table(rows: list[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return rows as lines of columns, each with its heading: {key: heading}."""
    shown = [[_text(row.get(key)) for key in columns] for row in rows]
    lines = [list(columns.values()), *shown]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def markdown(rows: list[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return rows as a Markdown table of columns, each with its heading: {key: heading}."""
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[_text(row.get(key)) for key in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_child(module: str, *arguments: object) -> dict[str, Any]:
    """Run a module in a process of its own and return the JSON of its last line; a failure ends this one."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a benchmark's parser, whose help is the module's docstring, with the option --json FILE."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    return parser


def write_json(path: Path | None, value: Any) -> None:
    """Write the figures if a path is given."""
    if path is not None:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False))


def set_flags(settings: Mapping[str, Any]) -> list[str]:
    """Return `--set KEY=VALUE` for each setting."""
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def pretrain_command(data: object, out: Path, settings: Mapping[str, Any], *flags: str) -> list[str]:
    """Return the command `seedbed pretrain` of this Python."""
    command = [sys.executable, "-m", "seedbed", "pretrain", str(data), "--out", str(out)]
    return [*command, *flags, *set_flags(settings)]


class StopAfter:
    """A callback that interrupts the training after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def begin(self, step: int, num_steps: int) -> None:
        """Do nothing."""

    def record(self, line: Mapping[str, Any]) -> None:
        """Send SIGINT after the step."""
        if (line["kind"], line["step"]) == ("step", self.step):
            os.kill(os.getpid(), signal.SIGINT)

    def end(self) -> None:
        """Do nothing."""
