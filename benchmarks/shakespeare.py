"""tinyshakespeare, characters: nanoGPT's published setting and our own recipe beside a `transformers` loop.

    python -m benchmarks.shakespeare ../shared/data/tinyshakespeare/input.txt --json shakespeare.json

For each seed in turn: the plain loop, whose training seconds are the clock C; `seedbed pretrain --recipe
classic`; `--recipe fast` with a quarter of C as its budget, and with all of it. The first 90% of the text is
the training set; the last 10% is evaluated in disjoint blocks of 64 characters, and of the model's context.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring import parser_of, pretrain_command, write_json

CONTEXT, ROWS, STEPS = 64, 12, 2000
PEAK, LEAST, WARMUP = 1e-3, 1e-4, 100


def peer(text: Path, seed: int) -> dict[str, Any]:
    """Train GPT-2 of the published shape in the loop that people write with `transformers`."""
    import torch
    from torch.nn import functional as F
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    characters = text.read_text()
    code = {c: i for i, c in enumerate(sorted(set(characters)))}
    ids = torch.tensor([code[c] for c in characters])
    train, held_out = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
    sizes = {"n_positions": CONTEXT, "n_layer": 4, "n_head": 4, "n_embd": 128}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(vocab_size=len(code), bos_token_id=0, eos_token_id=0, **sizes, **dropout)
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.99), weight_decay=0.1)
    started = time.perf_counter()
    for step in range(STEPS):
        share = (step - WARMUP) / (STEPS - WARMUP)
        rate = LEAST + 0.5 * (1 + math.cos(math.pi * share)) * (PEAK - LEAST)
        for group in optimizer.param_groups:
            group["lr"] = PEAK * (step + 1) / (WARMUP + 1) if step < WARMUP else rate
        at = torch.randint(len(train) - CONTEXT - 1, (ROWS,))[:, None] + torch.arange(CONTEXT)
        logits = model(train[at], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), train[at + 1].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - started
    model.eval()
    return {"seconds": seconds, "blocks_64": nats(lambda x: model(x).logits, held_out, CONTEXT)}


def nats(logits: Any, ids: Any, block: int) -> float:
    """Return the mean nats per token of ids (N,) in disjoint blocks, by `logits(ids (B, block))`."""
    import torch
    from torch.nn import functional as F

    count = (len(ids) - 1) // block
    inputs, targets = (ids[i : i + count * block].view(count, block) for i in (0, 1))
    total = 0.0
    with torch.no_grad():
        for x, y in zip(inputs.split(64), targets.split(64), strict=True):
            total += F.cross_entropy(logits(x).flatten(0, 1), y.flatten(), reduction="sum").item()
    return total / (count * block)


def ours(folder: Path, run: Path, seed: int, *flags: str) -> dict[str, Any]:
    """Train with the public command, then evaluate its bundle."""
    import torch

    import seedbed

    settings = {
        "data.validation": folder / "held_out.txt",
        "tokenizer.kind": "characters",
        "training.seed": seed,
    }
    command = pretrain_command(folder / "train.txt", run, settings, "--json", *flags)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr}")
    wall = time.perf_counter() - started
    result = json.loads(done.stdout)
    model = seedbed.load(run)
    ids = torch.tensor(model.tokenizer.encode((folder / "held_out.txt").read_text()))
    context = model.config.max_positions
    blocks = {"blocks_64": nats(model.logits, ids, CONTEXT), "blocks_own": nats(model.logits, ids, context)}
    seconds = result["measured"]["seconds"]
    return {"seconds": seconds, "whole_process": wall, "steps": result["metrics"]["step"], **blocks}


def main() -> None:
    """Run every seed, print each figure as it comes, then the medians."""
    parser = parser_of(__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", choices=["peer"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:  # the peer in a process of its own
        print(json.dumps(peer(arguments.text, arguments.seeds[0])))
        return
    text = arguments.text.read_text()
    cut = int(0.9 * len(text))
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "train.txt").write_text(text[:cut])
        (folder / "held_out.txt").write_text(text[cut:])

        def note(name: str, figures: dict[str, Any]) -> dict[str, Any]:
            results.setdefault(name, []).append(figures)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            print(f"{name:16} seed {seed}  {shown}", flush=True)
            return figures

        for seed in arguments.seeds:
            alone = [
                sys.executable,
                "-m",
                "benchmarks.shakespeare",
                str(arguments.text),
                "--seeds",
                str(seed),
                "--only",
                "peer",
            ]
            output = subprocess.run(alone, capture_output=True, text=True, check=True).stdout
            clock = note("transformers", json.loads(output))["seconds"]
            note("classic", ours(folder, folder / f"classic{seed}", seed, "--recipe", "classic"))
            for name, budget in (("fast, C / 4", clock / 4), ("fast, C", clock)):
                run = folder / f"{name[-1]}{seed}"
                note(name, ours(folder, run, seed, "--recipe", "fast", "--budget", f"{budget:.2f}s"))
    print("\nmedians over the seeds")
    for name, runs in results.items():
        middle = {key: median(run[key] for run in runs) for key in runs[0]}
        print(f"{name:16} " + "  ".join(f"{key} {value:.4g}" for key, value in middle.items()))
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
