"""The figures at the end of a run on text: from nothing, from a base, from a base that nothing improves."""

import json
import math
import random
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.api.pretrain import pretrain
from seedbed.data.objective import OBJECTIVES
from seedbed.runs.train import Run
from seedbed.select import rehearsal

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "then", "so", "home"]
SMALL = ["model.d_model=32", "model.num_layers=1", "tokenizer.kind=words", "tokenizer.vocab_size=300"]
COMMON = ["training.batch_tokens=256", "training.context_tokens=32", "training.precision=float32"]
COMMON += ["data.validation_fraction=0.3", "training.evaluate_every_steps=10"]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train on 60 texts in which each word follows one of two."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    source = random.Random(1)
    texts = []
    for _ in range(60):
        at, words = source.randrange(len(WORDS)), []
        for _ in range(40):
            at = (at + source.choice((1, 3))) % len(WORDS)
            words.append(WORDS[at])
        texts.append({"text": " ".join(words)})
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)))

    def run(out: str, *overrides: str, steps: int = 30, **options: Any) -> Run:
        data = str(tmp_path / "texts.jsonl")
        return pretrain(data, out=tmp_path / out, steps=steps, overrides=[*COMMON, *overrides], **options)

    return run


def test_text_is_judged_by_the_frequencies_of_tokens_and_a_base_by_itself(begin: Any, tmp_path: Path) -> None:
    first = begin("first", *SMALL, "training.learning_rate=0.01", family="gpt2", steps=100)
    figures = first.summary()["metrics"]
    assert figures == json.loads((first.run / "metrics.json").read_text())
    data = first.summary()["data"]
    assert data == json.loads((first.run / "data.json").read_text())
    assert data["files_read"] == 1 and data["files_skipped"] == [] and data["duplicates"] == 0
    texts_bytes = sum(
        len(json.loads(line)["text"]) for line in (tmp_path / "texts.jsonl").read_text().splitlines()
    )
    assert data["train_bytes"] + data["validation_bytes"] == texts_bytes
    assert data["train_tokens"] > data["validation_tokens"] > 0 and "too few" in data["warning"]
    low, high = figures["loss"]["interval"]
    assert low < figures["loss"]["value"] < high < figures["unigram_loss"] < math.log(300)
    # 14 words, nearly as frequent as each other.
    texts = [json.loads(line)["text"] for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    words = Counter(" ".join(texts).split())
    shares = np.array([*words.values()]) / words.total()
    entropy = -(shares * np.log(shares)).sum()
    assert figures["unigram_loss"] == pytest.approx(entropy, rel=0.1)
    assert figures["worked"] == "yes" and "frequencies" in figures["because"] and figures["before"] is None
    bits = figures["bits_per_byte"]["value"]
    assert bits == pytest.approx(json.loads(_last(first, "evaluation"))["bits_per_byte"])
    saved = tomllib.loads((first.run / "settings.toml").read_text())["training"]
    assert saved["evaluate_tokens"] == 8192
    card = (first.model / "README.md").read_text()
    assert "| token frequencies | " in card and "A gpt2 language model" in card
    # A rate that spoils the weights leaves those of the base, and every place says so.
    spoiled = begin("spoiled", f"model.base={first.model}", "training.learning_rate=3.0", steps=10)
    figures = spoiled.metrics
    assert figures["best_step"] == 0 and figures["worked"] == "no" and "unigram_loss" not in figures
    assert (
        figures["loss"]["value"]
        == figures["before"]["loss"]["value"]
        == pytest.approx(first.metrics["loss"]["value"])
    )
    assert "made the base better" in figures["because"]
    card = (spoiled.model / "README.md").read_text()
    assert f"| parent | `{first.model}`" in card and "| 0: the base's own weights, which no step" in card
    page = (spoiled.run / "report.html").read_text()
    assert "No step made the base better" in page
    ours, theirs = ((run.model / "model.safetensors").read_bytes() for run in (first, spoiled))
    assert ours == theirs
    # The same command again measures the same.
    again = begin("spoiled", f"model.base={first.model}", "training.learning_rate=3.0", steps=10)
    assert again.metrics == figures


def _last(run: Run, kind: str) -> str:
    lines = (run.run / "metrics.jsonl").read_text().splitlines()
    return next(line for line in reversed(lines) if json.loads(line)["kind"] == kind)


def test_a_card_says_what_each_objective_is_for() -> None:
    uses = {name: OBJECTIVES.get(name).use() for name in OBJECTIVES.names()}
    assert uses["causal"].startswith("It completes text")
    assert "masked tokens" in uses["masked"] and "answers a prompt" in uses["completion"]
    assert "fills a blank between" in uses["fill_in_the_middle"]
    assert (
        uses["span_corruption"] == uses["denoising"] == "It fills blanks of a text, of several tokens each."
    )
