"""Answer 100,000 records with a classifier of two layers, killed ten times, beside one uninterrupted call.

    python -m benchmarks.predict_kills --json predict_kills.json

The classifier is trained here for a minute on stretches of Python's own modules, labelled by their module.
The interrupted output must be that of the other call, byte for byte, and the peak of memory that of a file of
a tenth of the records, to within 32 MiB.
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

from benchmarks.measuring import machine, parser_of, write_json

from seedbed.data.builtin import builtin_texts

LABELS, WORDS = 8, 24


def stretches() -> list[tuple[str, str]]:
    """Stretches of words of the largest modules, with the module's name as their label."""
    modules = sorted(builtin_texts("builtin:prose"), key=lambda part: -len(part[1]))[:LABELS]
    found = []
    for name, text in modules:
        words = text.split()
        for start in range(0, len(words) - WORDS, WORDS):
            found.append((" ".join(words[start : start + WORDS]), name.split("/")[-1]))
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def predict(run: Path, data: Path, out: Path, *, kill_after: float | None = None) -> int | None:
    """Answer a file in a process of its own -> its peak of memory in bytes, or None if it was killed."""
    command = [sys.executable, "-m", "seedbed", "predict", str(run), str(data), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started, pid = time.perf_counter(), 0
    while not pid:
        time.sleep(0.02)
        if kill_after is not None and time.perf_counter() - started > kill_after:
            process.kill()
            process.wait()
            return None
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return usage.ru_maxrss * 1024


def main() -> None:
    """Train, answer, kill, compare and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=22)
    arguments = parser.parse_args()
    choose = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root, texts = Path(folder), stretches()
        labelled = write(root / "labels.jsonl", [{"text": text, "label": label} for text, label in texts])
        settings = ["--family", "bert", "--set", "model.num_layers=2", "--set", "model.d_model=64"]
        settings += ["--set", "tokenizer.vocab_size=2048", "--budget", "60s", "--out", str(root / "run")]
        subprocess.run(
            [sys.executable, "-m", "seedbed", "pretrain", str(labelled), *settings, "--json"], check=True
        )
        rows = [{"id": n, "text": choose.choice(texts)[0]} for n in range(arguments.records)]
        data, part = write(root / "all.jsonl", rows), write(root / "part.jsonl", rows[: len(rows) // 10])
        started = time.perf_counter()
        small = predict(root / "run", part, root / "part.out")
        small_seconds, started = time.perf_counter() - started, time.perf_counter()
        large = predict(root / "run", data, root / "whole.out")
        seconds = time.perf_counter() - started
        assert small is not None and large is not None
        kills, calls = 0, 0
        while True:
            calls += 1
            # At most as long as a tenth of the records takes: none of them ends before it is killed.
            limit = choose.uniform(0.3, 1.0) * small_seconds if kills < arguments.kills else None
            if predict(root / "run", data, root / "killed.out", kill_after=limit) is not None:
                break
            kills += 1
        same = (root / "killed.out").read_bytes() == (root / "whole.out").read_bytes()
        found = {
            "machine": machine(),
            "records": len(rows),
            "seconds": seconds,
            "kills": kills,
            "calls": calls,
            "byte_for_byte": same,
            "peak_bytes": {str(len(rows) // 10): small, str(len(rows)): large},
        }
    print(json.dumps(found, indent=1))
    if arguments.json:
        write_json(arguments.json, found)
    assert same and large - small < 32 << 20


if __name__ == "__main__":
    main()
