"""The cost of loading, corrupting and batching beside a training step of the 6 x 384 shape.

    python -m benchmarks.data_speed [--json FILE]

For each objective a network of six layers of width 384 (3 + 3 in an encoder-decoder) trains on 8,192 tokens
per step in records of 256, at the faster precision. A share is the median time to load and collate a batch
divided by that of the whole step, both timed in turn.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from benchmarks.measuring import machine, parser_of, table, write_json

from seedbed.base.hardware import probe
from seedbed.base.runtime import Runtime
from seedbed.base.threads import configure_threads
from seedbed.data.loader import Loader, MixturePart, micro_batches
from seedbed.data.objective import OBJECTIVES
from seedbed.data.records import PairSource, TokenSource
from seedbed.data.shards import write_shard
from seedbed.data.vocabulary import Vocabulary
from seedbed.models.network import build, family, initialize
from seedbed.runs.network import with_labels
from seedbed.training.loop import TrainStep
from seedbed.training.optimizer import OPTIMIZERS
from seedbed.training.settings import TrainingSettings

VOCAB_SIZE, CONTEXT, STEP_TOKENS, ROUNDS = 8192, 256, 8192, 12
FAMILIES = {"encoder": "bert", "decoder": "gpt2", "encoder-decoder": "t5"}


def vocabulary(shape: str) -> Vocabulary:
    """Return a vocabulary whose last 200 ids are special tokens, with a hundred sentinels."""
    ids = np.arange(VOCAB_SIZE)
    return replace(
        Vocabulary.stand_in(VOCAB_SIZE, decoder_start_id=8000 if shape == "encoder-decoder" else None),
        special_ids=ids[-200:],
        eos_id=8001,
        mask_id=8002,
        begin_ids=(8003,),
        end_ids=(8004,),
        sentinel_ids=tuple(range(8191, 8091, -1)),
    )


def measure(name: str, precision: str, folder: Path) -> dict[str, Any]:
    """Return the median milliseconds of loading a batch and of training on it."""
    kind = OBJECTIVES.get(name)
    shape = kind.shapes[0]
    config = family(FAMILIES[shape]).sized(384, 3 if shape == "encoder-decoder" else 6)
    config = with_labels(replace(config, vocab_size=VOCAB_SIZE, dropout=0.0), name, ("a", "b", "c"))
    objective = kind(vocabulary(shape), kind.settings_class())
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, VOCAB_SIZE - 200, n).tolist() for n in rng.integers(50, 1500, 800)]
    shard = write_shard(folder / name, texts, vocab_size=VOCAB_SIZE)
    source: Any = None
    if kind.learns_from == "text":
        size = objective.record_tokens(CONTEXT)
        source = TokenSource(shard, context_tokens=size, seed=0, overlap=objective.overlap)
    else:
        sizes = {"labels": [1] * 800, "tags": list(map(len, texts))}
        many = 4 if kind.head_kind else VOCAB_SIZE - 200  # labels start at 1
        answers = [
            rng.integers(1, many, n).tolist()
            for n in sizes.get(kind.learns_from, rng.integers(10, 100, 800).tolist())
        ]
        other = write_shard(folder / f"{name}_answers", answers, vocab_size=VOCAB_SIZE)
        max_tokens, cuts = objective.max_input_tokens(other.lengths, CONTEXT), kind.learns_from == "tags"
        source = PairSource(shard, other, max_input_tokens=max_tokens, seed=0, cuts_answers=cuts)
    loader = Loader([MixturePart(source, objective)], batch_tokens=STEP_TOKENS, seed=0)
    module = build(config)
    initialize(module, torch.Generator().manual_seed(0))
    runtime = replace(Runtime.from_environment("cpu"), precision=precision)
    settings = TrainingSettings(batch_tokens=STEP_TOKENS, context_tokens=CONTEXT)
    optimizer = OPTIMIZERS.get("adamw")(module, settings)
    compute = TrainStep(module, objective).train()
    loading, training = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        (batch,) = micro_batches(loader.next_step())
        loaded = time.perf_counter()
        with runtime.autocast():
            loss, num_targets = compute(batch)
        (loss / num_targets).backward()
        optimizer.step(1.0)
        module.zero_grad()
        loss.item()
        loading.append(loaded - started)
        training.append(time.perf_counter() - loaded)
    load, train = median(loading[2:]), median(training[2:])
    return {
        "objective": name,
        "family": config.family,
        "load_ms": 1e3 * load,
        "train_ms": 1e3 * train,
        "share": load / (load + train),
    }


def main() -> None:
    """Measure every objective."""
    parser = parser_of(__doc__)
    options = parser.parse_args()
    configure_threads()
    precision = probe().precision
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, precision, Path(folder)) for name in OBJECTIVES.names()]
    heading = {"objective": "objective", "family": "family", "load_ms": "load ms", "train_ms": "train ms"}
    print(f"{machine()}, {precision}")
    print(table(rows, heading | {"share": "share of a step"}))
    write_json(options.json, {"machine": machine(), "precision": precision, "rows": rows})


if __name__ == "__main__":
    main()
