"""Plan and train three shapes in fresh processes; print planned beside measured memory and time.

    python -m benchmarks.plan_accuracy --json plan_accuracy.json

Nothing in the planner was fitted to these shapes. Memory is the process's resident peak above the state after
the imports, time that of the whole loop with its evaluations and checkpoints. Matmuls are in float32: in
bfloat16 memory grows with every new number of tokens in a step (docs/LOG.md).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine, parser_of, pretrain_command, table, write_json

COMMON = {"training.precision": "float32"}
# The steps of a shape take 20 to 60 s on two cores with AVX-512.
SHAPES: dict[str, tuple[int, dict[str, Any]]] = {
    "llama 5 x 160": (
        250,
        {
            "model.family": "llama",
            "model.d_model": 160,
            "model.num_layers": 5,
            "tokenizer.vocab_size": 3000,
            "training.batch_tokens": 1536,
            "training.context_tokens": 128,
        },
    ),
    "gpt2 6 x 320": (
        45,
        {
            "model.family": "gpt2",
            "model.d_model": 320,
            "model.num_layers": 6,
            "tokenizer.vocab_size": 4096,
            "training.batch_tokens": 4096,
            "training.context_tokens": 256,
        },
    ),
    "gru 2 x 224": (
        120,
        {
            "model.family": "gru",
            "model.d_model": 224,
            "model.num_layers": 2,
            "tokenizer.vocab_size": 2048,
            "training.batch_tokens": 2048,
            "training.context_tokens": 128,
        },
    ),
}
COLUMNS = {
    "shape": "shape",
    "parameters": "parameters",
    "planned_mib": "MiB planned",
    "measured_mib": "measured",
    "bytes_error": "error",
    "planned_seconds": "s planned",
    "measured_seconds": "measured",
    "seconds_error": "error",
}


def run(data: str, num_steps: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Run once in a process of its own; a failure ends the benchmark with the run's message."""
    with tempfile.TemporaryDirectory() as scratch:
        every = max(1, num_steps // 4)
        settings = COMMON | settings
        settings |= {f"training.{key}_every_steps": every for key in ("evaluate", "checkpoint")}
        flags = ["--steps", str(num_steps), "--json"]
        command = pretrain_command(data, Path(scratch) / "run", settings, *flags)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(shape: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return the planned and measured figures of a run, and the errors as shares of the measured ones."""
    plan, measured = result["plan"], result["measured"]
    row = {
        "shape": shape,
        "parameters": plan["parameters"],
        "planned_mib": round(plan["peak_bytes"] / 2**20),
        "measured_mib": round(measured["peak_bytes"] / 2**20),
        "planned_seconds": plan["seconds"],
        "measured_seconds": measured["seconds"],
        "bytes": plan["bytes"],
    }
    for key, planned, really in (
        ("bytes_error", plan["peak_bytes"], measured["peak_bytes"]),
        ("seconds_error", plan["seconds"], measured["seconds"]),
    ):
        row[key] = planned / really - 1
    return row


def main() -> None:
    """Run the shapes one after the other and print them as a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="builtin:prose")
    parser.add_argument("--rounds", type=int, default=1, help="of all shapes")
    arguments = parser.parse_args()
    rows = []
    for _ in range(arguments.rounds):
        for shape, (num_steps, settings) in SHAPES.items():
            rows.append(compare(shape, run(arguments.data, num_steps, settings)))
            print(f"{shape}: done", file=sys.stderr, flush=True)
    shown = [row | {key: f"{row[key]:+.1%}" for key in ("bytes_error", "seconds_error")} for row in rows]
    print(table(shown, COLUMNS))
    worst = {key: max(abs(row[f"{key}_error"]) for row in rows) for key in ("bytes", "seconds")}
    print(f"worst error: {worst['bytes']:.1%} of memory, {worst['seconds']:.1%} of time")
    write_json(arguments.json, {"machine": machine(), "rows": rows, "worst": worst})


if __name__ == "__main__":
    main()
