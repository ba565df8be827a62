"""`seedbed demo`: the whole life cycle in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seedbed.cli.options import Budget, Json


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("demo"),
    budget: Budget = None,
    families: Annotated[
        bool, typer.Option("--families", help="One network of each kind: BERT, GPT-2, T5, BART, LSTM.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a Transformer and an LSTM on text that Python ships, compare them, and write report.html.

    The budget is 150 seconds where none is given, and ten minutes with --families.
    """
    from seedbed.api import demo as api
    from seedbed.api.families_demo import families_demo
    from seedbed.cli.console import print_facts, print_json, print_table, say
    from seedbed.cli.progress import TrainingProgress, show_plan

    def on_plan(name: str, plan: Any, settings: Any) -> None:
        say(f"{name}:")
        show_plan(plan.to_dict(), settings)

    if families:
        found = families_demo(
            out=out, budget_seconds=budget or 600.0, callback=TrainingProgress, on_plan=on_plan
        )
        _print_families(found, out, json=json)
        return
    result = api.demo(out=out, budget_seconds=budget or 150.0, callback=TrainingProgress, on_plan=on_plan)
    if json:
        print_json(result)
        return
    rows = []
    for name in ("transformer", "lstm"):
        run = result[name]
        rows.append(
            [
                name,
                f"{run['plan']['parameters']:,}",
                f"{run['metrics']['validation_bits_per_byte']:.3f}",
                f"{run['measured']['seconds']:.0f} ({run['plan']['seconds']:.0f})",
                f"{run['measured']['peak_bytes'] / 2**20:.0f} ({run['plan']['peak_bytes'] / 2**20:.0f})",
            ]
        )
    columns = ["network", "parameters", "bits/byte", "s (planned)", "MiB (planned)"]
    print_table("Held-out text, the same tokens", columns, rows, numbers=range(1, 5))
    print_facts(
        "", {"report": result["report"], "next": f'seedbed generate {out}/runs/transformer "Return a"'}
    )


def _print_families(found: dict[str, Any], out: Path, *, json: bool) -> None:
    from seedbed.cli.console import print_facts, print_json, print_table
    from seedbed.report.families import finding, read_models, tables

    if json:
        print_json(found)
        return
    kinds, scores = tables(read_models(found["families"], {}))
    columns, rows = kinds.plain()
    for title, chosen in (("What they are", (0, 1, 2)), ("", (0, 3, 4))):
        print_table(title, [columns[at] for at in chosen], [[row[at] for at in chosen] for row in rows])
    print_table("What they do, held out; \u00b1 half of a 95% interval, * the best", *scores.plain())
    print_facts(
        finding(found["families"]),
        {"report": found["report"], "next": f'seedbed generate {out}/runs/bert "x = ___" --fill'},
    )
