"""DialogSum: the gain of span corruption on the dialogues before they are summarized.

    python -m benchmarks.summarization ../shared/data/dialogsum --json summarization.json

A small T5 is pre-trained on the training dialogues alone, then tuned on their summaries; the same network
with fresh weights is tuned for as many steps. Both summarize the 500 dialogues of dev, which chose no
setting, with a beam of 4. ROUGE-L is F1 with stemming; the gain is the mean difference with its 95% interval,
by 10,000 bootstraps of dialogues. The three trainings and the answers take 30 minutes in all.
"""

import gzip
import json
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.measuring import parser_of, pretrain_command, write_json

SHAPE = {"model.d_model": 192, "model.num_layers": 2, "model.num_heads": 3, "tokenizer.vocab_size": 4096}
# T5 1.1 was pre-trained without dropout; the tunings use each dialogue once or twice and need none either.
SHAPE |= {"model.dropout": 0.0}
SHARED = {"training.batch_tokens": 2048, "training.context_tokens": 512, "data.validation_fraction": 0.02}
PAIRS = {"objective.name": "completion", "data.input": "dialogue", "data.target": "summary"}
# Long gaps in half of the text, as some of UL2's denoisers have them: a summary is not a gap of three tokens.
GAPS = {"objective.rate": 0.5, "objective.mean_span_tokens": 24}
# Of both tunings alike: the best of four settings for fresh weights in 380 steps (docs/LOG.md, 2026-11-27).
TUNING = {"training.learning_rate": 0.02}


def train(data: Path, out: Path, settings: dict[str, Any], *flags: str) -> float:
    """Train one run with the public command and return its seconds."""
    command = pretrain_command(data, out, settings, "--recipe", "fast", "--family", "t5", *flags)
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def answers(run: Path, dialogues: list[str]) -> list[str]:
    """Return the summaries of dialogues by a run's model; they are truncated as in its training."""
    import seedbed

    lm = seedbed.load(run)
    max_tokens = SHARED["training.context_tokens"] - 1
    sources = [[*lm.tokenizer.encode(text)[:max_tokens], lm.tokenizer.eos_id] for text in dialogues]
    found = lm.generate(sources, num_beams=4, max_new_tokens=80, temperature=0.0)
    return [answer.text for answer in found]


def rouge_l(texts: list[str], references: list[str]) -> np.ndarray:
    """Return the ROUGE-L F1 of each text."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    scores = [scorer.score(r, t)["rougeL"].fmeasure for t, r in zip(texts, references, strict=True)]
    return np.array(scores)


def gain(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Return the mean difference and its 95% interval."""
    rng = np.random.default_rng(0)
    difference = ours - theirs
    means = difference[rng.integers(0, len(difference), (10_000, len(difference)))].mean(1)
    return {"value": difference.mean(), "interval": np.quantile(means, [0.025, 0.975]).tolist()}


def main() -> None:
    """Pre-train, tune twice, compare."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretraining", default="15m", help="the budget of the pre-training")
    parser.add_argument("--tuning", default="5m", help="the budget of each tuning")
    parser.add_argument("--out", type=Path, default=Path("runs/dialogsum"))
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with gzip.open(options.data / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    pairs = [{key: record[key] for key in ("dialogue", "summary")} for record in records]
    for name, rows in (("texts", [{"text": pair["dialogue"]} for pair in pairs]), ("pairs", pairs)):
        (out / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    pretrained = SHARED | SHAPE | GAPS
    seconds = {
        "pre-training": train(
            out / "texts.jsonl", out / "pretrained", pretrained, "--budget", options.pretraining
        )
    }
    base = {"model.base": str(out / "pretrained")}
    tuned = SHARED | PAIRS | TUNING
    seconds["tuning"] = train(out / "pairs.jsonl", out / "tuned", tuned | base, "--budget", options.tuning)
    steps = tomllib.loads((out / "tuned" / "settings.toml").read_text())["training"]["num_steps"]
    seconds["tuning alone"] = train(
        out / "pairs.jsonl",
        out / "alone",
        tuned | SHAPE,
        *("--steps", str(steps), "--tokenizer", str(out / "pretrained" / "tokenizer")),
    )
    dev = [json.loads(line) for line in (options.data / "dev.jsonl").read_text().splitlines()]
    dialogues, references = ([record[key] for record in dev] for key in ("dialogue", "summary"))
    texts = {name: answers(out / name, dialogues) for name in ("tuned", "alone")}
    scores = {name: rouge_l(found, references) for name, found in texts.items()}
    result = {
        "rougeL": {name: score.mean() for name, score in scores.items()},
        "gain": gain(scores["tuned"], scores["alone"]),
        "steps": steps,
        "seconds": seconds | {"in all": time.perf_counter() - started},
        "examples": [{name: found[i] for name, found in texts.items()} for i in range(3)],
    }
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


if __name__ == "__main__":
    main()
