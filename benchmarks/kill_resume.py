"""Kill `seedbed pretrain` at random moments and during writes of checkpoints; compare the resumed runs.

    python -m benchmarks.kill_resume --anywhere 15 --writing 5 --json kill_resume.json

Each trial is a run of its own: killed once, resumed with the same command, and compared with an uninterrupted
run: the last weights, the optimizer's state and the bundle bit for bit, and the number of repeated steps.
"""

import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measuring import parser_of, pretrain_command, write_json

NUM_STEPS, EVERY = 240, 40
SETTINGS = {
    "model.d_model": 128,
    "model.num_layers": 4,
    "tokenizer.vocab_size": 1024,
    "training.batch_tokens": 1024,
    "training.context_tokens": 128,
    "training.precision": "float32",
    "training.checkpoint_every_steps": EVERY,
    "training.evaluate_every_steps": 2 * EVERY,
    "model.dropout": 0.1,
}


def write_corpus(path: Path) -> None:
    """Write 400 documents of made-up words, the same each time."""
    rng = random.Random(0)
    words = ["".join(rng.choices("aeioubcdfglmnprst", k=rng.randint(2, 8))) for _ in range(500)]
    lines = [json.dumps({"text": " ".join(rng.choices(words, k=120))}) for _ in range(400)]
    path.write_text("\n".join(lines))


def start(folder: Path, data: str) -> subprocess.Popen[bytes]:
    """Start the command that starts or resumes the run."""
    command = pretrain_command(data, folder, SETTINGS, "--family", "gpt2", "--steps", str(NUM_STEPS))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(folder: Path, data: str) -> None:
    """Run to the end; a failure ends the benchmark with the run's message."""
    with start(folder, data) as process:
        _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"the run in {folder} failed with {process.returncode}: {errors.decode()}")


def digests(folder: Path) -> list[str]:
    """Return the SHA-256 of the run's last weights, optimizer state and bundle."""
    last = folder / "checkpoints" / f"{NUM_STEPS:06d}"
    files = (
        last / "weights.safetensors",
        last / "optimizer.safetensors",
        folder / "model" / "model.safetensors",
    )
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def steps_done(folder: Path) -> list[int]:
    """Return the steps in the order in which they were done, with repeated ones."""
    path = folder / "metrics.jsonl"
    texts = path.read_text().splitlines() if path.exists() else []
    lines = [json.loads(text) for text in texts if text.endswith("}")]
    return [line["step"] for line in lines if line["kind"] == "step"]


def kill(folder: Path, data: str, step: int, fraction: float, writing: bool) -> str:
    """Kill the run a fraction of a step after `step`, or during the write of that step's checkpoint."""
    step_seconds = 0.0
    half = folder / "checkpoints" / f"{step:06d}.partial"
    with start(folder, data) as process:
        while process.poll() is None:
            if writing and half.exists():
                time.sleep(fraction * 0.02)
                break
            done = steps_done(folder)[-1:] or [0]
            if not writing and done[0] >= step:
                lines = (folder / "metrics.jsonl").read_text().splitlines()
                step_seconds = json.loads(lines[0])["seconds"]
                time.sleep(fraction * step_seconds)
                break
            if not writing:
                time.sleep(0.002)
        found = half.exists()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    if process.returncode != -signal.SIGKILL:
        return "missed: the run had ended"
    return ("while writing" if found else "missed: the write had ended") if writing else "anywhere"


def trial(
    folder: Path, data: str, *, writing: bool, rng: random.Random, expected: list[str]
) -> dict[str, Any]:
    """Kill one run, resume it and compare."""
    last = NUM_STEPS // EVERY
    step = EVERY * rng.randint(2, last) if writing else rng.randint(EVERY, NUM_STEPS - 2)
    moment = kill(folder, data, step, rng.random(), writing)
    before = (steps_done(folder) or [0])[-1]
    finish(folder, data)
    counts = Counter(steps_done(folder))
    return {
        "moment": moment,
        "killed_after_step": before,
        "repeated_steps": sum(counts.values()) - len(counts),
        "all_steps_done": sorted(counts) == list(range(1, NUM_STEPS + 1)),
        "identical": digests(folder) == expected,
    }


def main() -> None:
    """Run the trials and print them as a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--anywhere", type=int, default=15, help="kills after the first checkpoint")
    parser.add_argument("--writing", type=int, default=5, help="kills while a checkpoint is written")
    parser.add_argument("--data", help="a corpus, by default made-up words")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, trials = random.Random(arguments.seed), []
    with tempfile.TemporaryDirectory() as scratch:
        whole, data = Path(scratch) / "whole", arguments.data or f"{scratch}/corpus.jsonl"
        if not arguments.data:
            write_corpus(Path(data))
        finish(whole, data)
        expected = digests(whole)
        print(
            f"uninterrupted: {NUM_STEPS} steps, weights {expected[0][:12]}, a checkpoint every {EVERY} steps"
        )
        kinds = [False] * arguments.anywhere + [True] * arguments.writing
        while kinds:
            folder = Path(scratch) / f"trial-{len(trials)}"
            result = trial(folder, data, writing=kinds[0], rng=rng, expected=expected)
            trials.append(result)
            kinds = (
                kinds if result["moment"].startswith("missed") else kinds[1:]
            )  # a missed kill does not count
            verdict = "identical" if result["identical"] else "DIFFERENT"
            counts = f"after step {result['killed_after_step']:3}  repeated {result['repeated_steps']:2}"
            print(f"{len(trials):3}  {result['moment']:28}  {counts}  {verdict}", flush=True)
    counted = [t for t in trials if not t["moment"].startswith("missed")]
    good = sum(t["identical"] and t["all_steps_done"] and t["repeated_steps"] <= EVERY for t in counted)
    most = max(t["repeated_steps"] for t in counted)
    print(f"{good} of {len(counted)} identical; most steps repeated: {most}")
    write_json(arguments.json, {"trials": trials, "good": good, "of": len(counted)})
    sys.exit(good != len(counted))


if __name__ == "__main__":
    main()
