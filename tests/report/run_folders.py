"""Run folders as trainings write them, with curves that fall as a power of the tokens."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

BITS_PER_NAT = 0.42  # about 3.4 bytes per token
# The training text has more bytes per token than the held-out one.
TRAINING_BITS_PER_NAT = 0.36
DATA = {"train_bytes": 9_000_000, "train_documents": 400, "validation_bytes": 460_000}
DATA |= {
    "train_tokens": 400 + round(9_000_000 * TRAINING_BITS_PER_NAT * math.log(2)),
    "validation_tokens": 134_000,
}
DATA |= {"files_read": 12, "files_skipped": ["notes/paper.pdf"], "duplicates": 3, "warning": ""}
SETTINGS = """
[model]
family = "{family}"
d_model = {d_model}

[tokenizer]
kind = "bpe"
vocab_size = 4096

[data]
train = "builtin:prose"

[objective]
name = "causal"

[training]
num_steps = {num_steps}
batch_tokens = 4096
learning_rate = {learning_rate}
compile = false
"""
CARD = """---
license: apache-2.0
library_name: seedbed
---
# {title}

A language model trained from scratch by seedbed. It is the **best on validation**.

| | |
| --- | --- |
| parameters | 1,234,567 |
| training text | `builtin:prose`, fingerprint `9f2c81d0a4` |

## Limits

- It has seen 2 million tokens: it writes the shape of sentences, not their sense.
- It has not been aligned with anybody's wishes.
"""
HARDWARE = {
    "cpu": "Example CPU @ 2.50 GHz",
    "instructions": "AVX512",
    "num_cores": 2,
    "memory_bytes": 24 * 2**30,
    "gpus": [],
    "matmul_flops": {"float32": 8.9e10, "bfloat16": 2.1e10},
}
TEXTS = {
    0.0: "the value of the object is the value of the object is the value of the object.",
    0.8: "a new list of the names that the module defines. If the file cannot be opened, an error is raised.",
    1.2: "urn whose left tag copies 8-bit forks; ncurses (see locale) may yearn, un-\nwrapped, for tuples.",
}


def metrics(
    *,
    num_steps: int = 400,
    floor: float = 4.0,
    tokens_per_second: float = 20_000.0,
    evaluate_every: int = 40,
    seed: int = 0,
) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        tokens, speed = 4096 * step, tokens_per_second * float(generator.uniform(0.9, 1.05))
        seconds = tokens / tokens_per_second
        loss = floor + (8.3 - floor) * step**-0.45
        noisy = loss + float(generator.normal(0, 0.09))
        line = {"kind": "step", "step": step, "loss": noisy, "learning_rate": 1e-3, "gradient_norm": 0.9}
        line |= {"tokens": tokens, "seconds": seconds, "tokens_per_second": speed}
        lines.append(line | {"peak_fraction": speed / (4 * tokens_per_second)})
        if step % evaluate_every == 0 or step == num_steps:
            lines.append(evaluation(step, loss + 0.05, seconds))
    return lines


def evaluation(step: int, loss: float, seconds: float) -> dict[str, Any]:
    """The line of an evaluation."""
    known = {"kind": "evaluation", "step": step, "loss": loss, "bits_per_byte": loss * BITS_PER_NAT}
    return known | {"num_targets": 50_000, "tokens": 4096 * step, "seconds": seconds}


def figures(loss: float, *, worked: str = "yes", because: str = "", **more: Any) -> dict[str, Any]:
    """The figures of a run at its end."""
    spread = [loss - 0.05, loss + 0.05]
    because = (
        because or f"{loss * BITS_PER_NAT:.4f} bits per byte, with the frequencies of tokens alone 3.3612."
    )
    found = {"loss": {"value": loss, "interval": spread}, "worked": worked, "because": because}
    return found | {"before": None} | more


def plan(*, seconds: float = 82.0, peak_bytes: float = 400 * 2**20, **more: Any) -> dict[str, Any]:
    """A plan as a run's folder has it before step 1."""
    parts = {
        "weights": 5_000_000,
        "gradients": 5_000_000,
        "optimizer": 10_000_000,
        "activations": 150_000_000,
    }
    known = {"parameters": 1_234_567, "bytes": parts, "peak_bytes": peak_bytes, "seconds": seconds}
    return known | {"flops": 1.4e13, "disk_bytes": 44_000_000, "hardware": HARDWARE} | more


def write_run(
    folder: Path,
    lines: list[dict[str, Any]] | None = None,
    planned: dict[str, Any] | None = None,
    *,
    family: str = "seedling",
    num_steps: int = 400,
    card: str | None = None,
) -> Path:
    """A run's folder, finished where its lines reach `num_steps`; what a test wants missing it deletes."""
    folder.mkdir(parents=True)
    lines = metrics(num_steps=num_steps) if lines is None else lines
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    measured = {"peak_bytes": 412 * 2**20, "seconds": 84.3, "tokens_per_second": 19_400.0}
    if planned is None:
        ended = max((line["step"] for line in lines), default=0) >= num_steps
        planned = plan(measured=measured) if ended else plan()
    (folder / "plan.json").write_text(json.dumps(planned), encoding="utf-8")
    if "measured" in planned:
        loss = min((line["loss"] for line in lines if line["kind"] == "evaluation"), default=1.0)
        ended_with = figures(loss)
        (folder / "metrics.json").write_text(json.dumps(ended_with), encoding="utf-8")
    (folder / "data.json").write_text(json.dumps(DATA), encoding="utf-8")
    rate = 0.002 if family == "seedling" else 0.004
    settings = SETTINGS.format(family=family, d_model=128, num_steps=num_steps, learning_rate=rate)
    (folder / "settings.toml").write_text(settings, encoding="utf-8")
    (folder / "model").mkdir()
    (folder / "model" / "README.md").write_text(card or CARD.format(title=folder.name), encoding="utf-8")
    return folder


def samples(runs: tuple[str, ...] = ("transformer", "lstm")) -> dict[str, Any]:
    """Completions of every run by temperature, top-k and top-p."""
    kept: list[tuple[float, int | None, float | None]] = [
        (0.0, None, None),
        (0.8, None, None),
        (1.2, None, None),
    ]
    kept += [(0.8, 40, None), (0.8, None, 0.9)]
    rows = [
        {"run": run, "temperature": temperature, "top_k": top_k, "top_p": top_p, "text": TEXTS[temperature]}
        for temperature, top_k, top_p in kept
        for run in runs
    ]
    return {"prompt": "Return the", "rows": rows}


def write_demo(folder: Path) -> Path:
    """The folder of a demo: a Transformer and an LSTM of like size, and what both write."""
    for name, family, floor, speed, seconds in (
        ("transformer", "seedling", 3.75, 20_000.0, 78.0),
        ("lstm", "lstm", 4.3, 31_000.0, 55.0),
    ):
        measured = {"peak_bytes": (412 if family == "lstm" else 396) * 2**20, "seconds": 4096 * 400 / speed}
        planned = plan(seconds=seconds, measured=measured)
        lines = metrics(floor=floor, tokens_per_second=speed, seed=len(name))
        write_run(folder / "runs" / name, lines, planned, family=family, card=CARD.format(title=name))
    (folder / "samples.json").write_text(json.dumps(samples()), encoding="utf-8")
    note = {"budget_seconds": 150.0, "steps": 400, "titles": {"transformer": "Transformer", "lstm": "LSTM"}}
    (folder / "demo.json").write_text(json.dumps(note), encoding="utf-8")
    return folder
