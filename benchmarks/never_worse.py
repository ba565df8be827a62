"""Tune SmolLM2 with default settings on five sets of 200 records: is it ever worse than before?

    python -m benchmarks.never_worse ../shared/data --json never_worse.json

DialogSum as the task `summarize`, two sets of instructions, SciQ, and SST-2 in words as prompt and
completion. Of each set 200 records (of SciQ, which has 200 in all, 100) and 100 others are sampled with a
seed. The tuning sees the 200 alone, and takes what it holds out from them. The 100 answers, rendered as the
run renders its own, are scored by the base and by the tuned model: the mean log-probability per token, with
the 95% interval of the paired difference by the bootstrap of answers. Beside it is the run's own loss on what
it held out, before and after. Ten plain questions that the base answers right, greedily in its chat template,
are asked before and after. `--quick` tunes one step on 20 records and tests 10.
"""

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import in_child, machine, markdown, parser_of, write_json

from seedbed.base.threads import configure_threads

SETS = ("dialogsum", "alpaca_en_demo", "rasbt-instruction-data", "sciq", "sst2")
# Each with what a right answer has; SmolLM2-135M-Instruct answers all of them right, greedily (2026-11-29).
QUESTIONS = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Germany?", "Berlin"),
    ("What is 2 + 2?", "4|four"),
    ("How many days are in a week?", "7|seven"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("What is the chemical symbol for water?", "H2O"),
    ("What is the opposite of hot?", "cold"),
    ("What language is spoken in Brazil?", "Portuguese"),
    ("What is the largest ocean on Earth?", "Pacific"),
)
SENTIMENT = {"1": "positive", "0": "negative"}
COLUMNS = {
    "set": "data",
    "tested": "answers tested",
    "before": "before",
    "after": "after",
    "difference": "difference [95%]",
    "verdict": "verdict",
    "own": "own held-out loss, before / after",
    "right": "questions right, before / after",
    "seconds": "s",
}


def records_of(name: str, data: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the records of a set, and how many are trained on."""
    from benchmarks.tuning import read_labels, read_lines

    if name == "dialogsum":
        found = read_lines(data / "dialogsum" / "train.jsonl.gz")
        return [{key: record[key] for key in ("dialogue", "summary")} for record in found], 200
    if name == "sciq":
        found = read_lines(data / "t0-mixture" / "sciq_Direct_Question.jsonl")
        ends = [record["completion"].removesuffix("<|endoftext|>") for record in found]
        pairs = zip(found, ends, strict=True)
        return [{"prompt": record["prompt"], "completion": end} for record, end in pairs], 100
    if name == "sst2":
        rows = read_labels(data / "sst2" / "stsa.binary.train")
        asked = "Is this review positive or negative?\n\n{}\n"
        return [{"prompt": asked.format(text), "completion": SENTIMENT[label]} for label, text in rows], 200
    return read_lines(data / "instructions" / f"{name}.json"), 200


def num_right(lm: Any, max_new_tokens: int) -> tuple[int, list[str]]:
    """Return how many questions a model answers right, and its answers."""
    asked = [lm.chat_ids([{"role": "user", "content": question}]) for question, _ in QUESTIONS]
    answers = [found.text for found in lm.generate(asked, max_new_tokens, temperature=0.0)]
    pairs = zip(answers, QUESTIONS, strict=True)
    found = [re.search(rf"\b({words})\b", answer, re.IGNORECASE) for answer, (_, words) in pairs]
    return sum(each is not None for each in found), answers


def measure(name: str, data: Path, folder: Path, *, seed: int, quick: bool) -> dict[str, Any]:
    """Tune on a set and score the other records before and after."""
    from benchmarks.tuning import SMOLLM2, rendered, sampled, scored, shown, write_lines

    import seedbed
    from seedbed.api.tune import train as tune
    from seedbed.evaluation.metrics.bootstrap import bootstrapped, ratio_score
    from seedbed.evaluation.metrics.paired import compared

    records, num_train = records_of(name, data)
    num_train, num_tested = (20, 10) if quick else (num_train, 100)
    train, test = sampled(records, seed, num_train, num_tested)
    train_file, test_file = (
        write_lines(folder / f"{part}.jsonl", rows) for part, rows in (("train", train), ("test", test))
    )
    run = tune(
        SMOLLM2,
        str(train_file),
        out=folder / "run",
        peft="lora",
        task="summarize" if name == "dialogsum" else None,
        overrides=["training.num_steps=1"] if quick else [],
        notify=lambda line: print(line, file=sys.stderr, flush=True),
    )
    found = rendered(run.run, test_file, folder / "opened")
    lm = seedbed.load(SMOLLM2)
    before = scored(lm, found)
    before_right, before_answers = num_right(lm, 8 if quick else 32)
    lm = seedbed.load(run.model)
    after = scored(lm, found)
    after_right, after_answers = num_right(lm, 8 if quick else 32)
    difference = compared(ratio_score([*after, *before]), len(after), seed=seed).to_dict()
    scores = {"before": before, "after": after}
    means = {
        key: bootstrapped(ratio_score(each), len(each), seed=seed).to_dict() for key, each in scores.items()
    }
    return {
        "set": name,
        "tested": len(after),
        **{key: shown(mean) for key, mean in means.items()},
        "difference": shown(difference),
        "verdict": verdict(difference),
        "own": own_losses(run.metrics),
        "right": f"{before_right} / {after_right}",
        "seconds": round(run.measured["seconds"]),
        "values": {"means": means, "difference": difference, "scores": scores, "metrics": run.metrics},
        "answers": {"before": before_answers, "after": after_answers},
        "measured": run.measured,
    }


def verdict(difference: dict[str, Any]) -> str:
    """Return whether the interval of a difference excludes that nothing has changed."""
    if difference["interval"] is None:
        return "not known"
    low, high = difference["interval"]
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def own_losses(metrics: dict[str, Any]) -> str:
    """Return the losses that a run measured on what it held out itself, in nats per token."""
    both = ((metrics["before"] or {}).get("loss"), metrics["loss"])
    return " / ".join("-" if score is None else f"{score['value']:.3f}" for score in both)


def main() -> None:
    """Tune on each set in a process of its own and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path, help="the folder of the data")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one step on 20 records, 10 tested")
    parser.add_argument("--part", choices=SETS, help="of one process, for itself")
    parser.add_argument("--folder", type=Path, help="of one process")
    options = parser.parse_args()
    configure_threads()
    if options.part is not None:
        row = measure(options.part, options.data, options.folder, seed=options.seed, quick=options.quick)
        return print(json.dumps(row))
    flags, rows = ["--quick"] * options.quick, []
    for name in options.sets:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            part = [f"--part={name}", f"--folder={folder}", f"--seed={options.seed}"]
            rows.append(in_child("benchmarks.never_worse", options.data, *part, *flags))
        print(f"{name}: {time.perf_counter() - started:.0f} s in all", file=sys.stderr, flush=True)
        write_json(options.json, {"machine": machine(), "seed": options.seed, "rows": rows})
    print("  ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"seed {options.seed}; log-probability per token\n\n{markdown(rows, COLUMNS)}")
    worse = [row["set"] for row in rows if row["verdict"] == "worse"]
    print(f"\nworse: {', '.join(worse) or 'none'}")


if __name__ == "__main__":
    main()
