"""`seedbed demo`: the whole life cycle in minutes."""

from __future__ import annotations

from functools import partial
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
    from seedbed.cli.waiting import Waiting

    def on_plan(name: str, plan: Any, settings: Any) -> None:
        say(f"{name}:")
        show_plan(plan.to_dict(), settings)

    run, seconds = (families_demo, 600.0) if families else (api.demo, 150.0)
    with Waiting("preparing the tokenizer and the plans") as waiting:
        show = partial(TrainingProgress, waiting=waiting)
        result = run(out=out, budget_seconds=budget or seconds, callback=show, on_plan=on_plan)
    if json:
        print_json(result)
        return
    if families:
        _print_families(result, out)
        return
    rows = []
    for name in ("transformer", "lstm"):
        plan, measured = result[name]["plan"], result[name]["measured"]
        bits = result[name]["metrics"]["bits_per_byte"]["value"]
        time = f"{measured['seconds']:.0f} ({plan['seconds']:.0f})"
        memory = f"{measured['peak_bytes'] / 2**20:.0f} ({plan['peak_bytes'] / 2**20:.0f})"
        rows.append([name, f"{plan['parameters']:,}", f"{bits:.3f}", time, memory])
    columns = ["network", "parameters", "bits/byte", "s (planned)", "MiB (planned)"]
    print_table("Held-out text, the same tokens", columns, rows, numbers=range(1, 5))
    following = f'seedbed generate {out}/runs/transformer "Return a"'
    print_facts("", {"report": result["report"], "next": following})


def _print_families(found: dict[str, Any], out: Path) -> None:
    from seedbed.cli.console import print_facts, print_table
    from seedbed.report.families import finding, scores_table

    title = "Percent right on held-out code; \u00b1 half of a 95% interval, * the best"
    print_table(title, *scores_table(found["families"], {}).plain())
    following = f'seedbed generate {out}/runs/bert "x = ___" --fill'
    print_facts(finding(found["families"]), {"report": found["report"], "next": following})
