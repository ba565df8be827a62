"""Speed beside the matmuls alone and `transformers`, in this run, on this machine: `make bench`.

    python -m benchmarks [--quick] [--json FILE]

The matmuls alone are those of the same step, on the same weights and shapes. A ratio is the median over
rounds in which all were timed in turn. Long comparisons have commands of their own,
`python -m benchmarks.shakespeare`, `.plan_accuracy` and `.kill_resume`.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring import machine, parser_of, seconds_of, table, write_json

from seedbed.base.threads import configure_threads

# d_model, layers, vocabulary, rounds
SHAPES = ((128, 4, 4096, 60), (384, 6, 4096, 25), (768, 12, 50_257, 9))
YARDSTICKS = {
    "ours_ms": "ours ms",
    "matmuls_ms": "matmuls ms",
    "transformers_ms": "transformers ms",
    "to_matmuls": "ours / matmuls",
    "transformers_to_matmuls": "transformers / matmuls",
    "faster_than_transformers": "times as fast as transformers",
}


def start_times() -> list[dict[str, Any]]:
    """Return the seconds of a process that imports the package or prints the help, and of Python alone."""
    empty = [sys.executable, "-c", "pass"]
    commands = {
        "import seedbed": [sys.executable, "-c", "import seedbed"],
        "seedbed --help": [sys.executable, "-m", "seedbed", "--help"],
    }

    def run(command: list[str]) -> float:
        return median(
            seconds_of(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(7)
        )

    python = run(empty)
    return [{"what": name, "seconds": run(command), "python": python} for name, command in commands.items()]


def main() -> None:
    """Measure everything, print the tables, write the JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    parser.set_defaults(json=Path("build/bench.json"))
    arguments = parser.parse_args()
    configure_threads()  # as the command line does, before torch is loaded
    from benchmarks import generation_speed, training_speed

    share = 3 if arguments.quick else 1
    results: dict[str, Any] = {"machine": machine(), "start": start_times(), "training": []}
    print("  ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(
        "\nstart of a process\n"
        + table(results["start"], {"what": "", "seconds": "s", "python": "python alone s"})
    )
    for d_model, num_layers, vocab_size, rounds in SHAPES:
        row = training_speed.measure(d_model, num_layers, vocab_size=vocab_size, rounds=rounds // share)
        results["training"].append(row)
    columns = {"shape": "shape", "tokens_per_second": "tokens/s"} | YARDSTICKS
    print("\ntraining, GPT-2 shapes, 1,024 tokens\n" + table(results["training"], columns), flush=True)
    results["generation"] = generation_speed.measure((1, 8), preset="gpt2:124m", rounds=9 // share)
    columns = (
        {"batch": "batch", "tokens_per_second": "tokens/s"} | YARDSTICKS | {"same_tokens": "same tokens"}
    )
    print("\ngeneration, gpt2:124m, greedy\n" + table(results["generation"], columns))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.json, results)
    print(f"\nwritten to {arguments.json}")


if __name__ == "__main__":
    main()
