"""Tune SmolLM2 on a mixture of tasks and answer one that was left out of it (Wei et al. 2109.01652).

    python -m benchmarks.multi_task ../shared/data/t0-mixture --json multi_task.json

The tasks are six of 200 prompted records. Each that is left out (`--leave-out`, by default SciQ and MRPC) is
a run of its own on the other five; the end marks at the end of completions are removed. All 200 records of
the one left out are answered before and after, with the prompt as the run renders prompts: exact match of
the greedy answer (SQuAD's normalization) and, where the task has few answers, the accuracy of the most
probable candidate and the probability of the reference among the candidates. Figures have 95% intervals by
the bootstrap of records, paired for the difference. `constant` is the share of the most frequent reference:
of DBpedia and Rotten Tomatoes all 200 references are the same, so that these two show little. `--quick` has
10 records of each task and one step.
"""

import json
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.measuring import in_child, machine, markdown, parser_of, write_json

from seedbed.base.threads import configure_threads

END = "<|endoftext|>"
TOPICS = "Company, Educational Institution, Artist, Athlete, Office Holder, Mean Of Transportation, Building"
TOPICS += ", Natural Place, Village, Animal, Plant, Album, Film, Written Work"
# The candidate answers of each task, by the start of its file's name; none where answers are free.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "sciq": (),
    "glue_mrpc": ("equivalent", "not equivalent"),
    "wiki_qa": ("No", "Yes"),
    "rotten_tomatoes": ("No", "Yes"),
    "dbpedia": tuple(TOPICS.split(", ")),
    "common_gen": (),
}
COLUMNS = {
    "task": "task left out",
    "metric": "metric",
    "records": "records",
    "constant": "constant",
    "before": "before",
    "after": "after",
    "difference": "difference [95%]",
    "p_value": "p",
}


def read_tasks(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return the records of each task, without the marks at the end."""
    from benchmarks.tuning import read_lines

    files = {name: next(folder.glob(f"{name}*.jsonl")) for name in CANDIDATES}
    return {
        name: [
            {"prompt": row["prompt"], "completion": row["completion"].removesuffix(END)}
            for row in read_lines(file)
        ]
        for name, file in files.items()
    }


def answered(lm: Any, asked: list[Any], others: list[Any], records: list[dict[str, str]]) -> dict[str, Any]:
    """Return the scores of the records by metric, and the greedy answers.

    `asked` are the records as rendered; `others` are they with each candidate as the answer, if any.
    """
    from benchmarks.tuning import scored

    from seedbed.evaluation.metrics.answers import exact_match

    # Twice the tokens of the longest reference: a longer answer does not match.
    most = 2 * max(len(each.answer) for each in asked)
    found = lm.generate([each.prompt for each in asked], most, temperature=0.0)
    texts = [answer.text.removesuffix(END) for answer in found]
    references = [record["completion"] for record in records]
    pairs = zip(references, texts, strict=True)
    scores = {"exact match": [exact_match(reference, text) for reference, text in pairs]}
    if not others:
        parts = scored(lm, asked)
        scores["log-probability per token"] = [logprob / size for logprob, size in parts]
        return {"scores": scores, "texts": texts}
    logprobs = np.array([logprob for logprob, _ in scored(lm, others)]).reshape(len(records), -1)
    shares = np.exp(logprobs - np.logaddexp.reduce(logprobs, 1, keepdims=True))
    true = [list(record["candidates"]).index(record["completion"]) for record in records]
    scores["most probable candidate"] = (logprobs.argmax(1) == true).astype(float).tolist()
    scores["probability of the reference"] = shares[np.arange(len(true)), true].tolist()
    return {"scores": scores, "texts": texts}


def measure(options: Namespace) -> dict[str, Any]:
    """Tune on the tasks but one; answer that one before and after."""
    from benchmarks.tuning import SMOLLM2, rendered, write_lines

    import seedbed
    from seedbed.api.tune import train as tune

    tasks, folder, task = read_tasks(options.data), options.folder, options.part
    records = tasks.pop(task)[: 10 if options.quick else None]
    for name, rows in tasks.items():
        write_lines(folder / "mixture" / f"{name}.jsonl", rows[: 10 if options.quick else None])
    run = tune(
        SMOLLM2,
        str(folder / "mixture"),
        out=folder / "run",
        peft="lora",
        overrides=["training.num_steps=1"] if options.quick else list(options.set),
        notify=lambda line: print(line, file=sys.stderr, flush=True),
    )
    expanded = [record | {"completion": each} for record in records for each in CANDIDATES[task]]
    file = write_lines(folder / "left_out.jsonl", [*records, *expanded])
    rows = rendered(run.run, file, folder / "opened")
    asked, others = rows[: len(records)], rows[len(records) :]
    known = [record | {"candidates": CANDIDATES[task]} for record in records]
    before = answered(seedbed.load(SMOLLM2), asked, others, known)
    after = answered(seedbed.load(run.model), asked, others, known)
    return {
        "task": task,
        "records": len(records),
        "constant": Counter(record["completion"] for record in records).most_common(1)[0][1] / len(records),
        "before": before,
        "after": after,
        "metrics": run.metrics,
        "measured": run.measured,
    }


def compared_rows(found: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Return a row of the table for each metric."""
    from benchmarks.tuning import shown

    from seedbed.evaluation.metrics.bootstrap import bootstrapped, mean_score
    from seedbed.evaluation.metrics.paired import compared

    rows = []
    for metric, before in found["before"]["scores"].items():
        after, number = found["after"]["scores"][metric], found["records"]
        difference = compared(mean_score([*after, *before]), number, seed=seed).to_dict()
        scores = {"before": before, "after": after}
        means = {key: bootstrapped(mean_score(each), number, seed=seed) for key, each in scores.items()}
        rows.append(
            {
                **{key: found[key] for key in ("task", "records")},
                "constant": None if "probability" in metric else found["constant"],
                "metric": metric,
                **{key: shown(mean.to_dict()) for key, mean in means.items()},
                "difference": shown(difference),
                "p_value": difference["p_value"],
            }
        )
    return rows


def main() -> None:
    """Leave out each task in turn, in a process of its own, and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path, help="the folder of the tasks")
    parser.add_argument("--leave-out", nargs="*", choices=CANDIDATES, default=["sciq", "glue_mrpc"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the tunings")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    parser.add_argument("--quick", action="store_true", help="one step, 10 records of each task")
    parser.add_argument("--part", choices=CANDIDATES, help="of one process, for itself")
    parser.add_argument("--folder", type=Path, help="of one process")
    options = parser.parse_args()
    configure_threads()
    if options.part is not None:
        return print(json.dumps(measure(options)))
    flags = [*["--quick"] * options.quick, *(f"--set={each}" for each in options.set)]
    rows: list[dict[str, Any]] = []
    details = []
    for task in options.leave_out:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            part = [f"--part={task}", f"--folder={folder}"]
            details.append(in_child("benchmarks.multi_task", options.data, *part, *flags))
        rows += compared_rows(details[-1], options.seed)
        print(f"{task}: {time.perf_counter() - started:.0f} s in all", file=sys.stderr, flush=True)
        write_json(options.json, {"machine": machine(), "rows": rows, "details": details})
    print("  ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"\n{markdown(rows, COLUMNS)}")


if __name__ == "__main__":
    main()
