"""Public objects describe themselves in a line, and in a notebook's table."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.models.network import family
from seedbed.nn.config import HeadConfig


def rows(html: str) -> dict[str, str]:
    """The rows of a notebook's table."""
    return dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", html))


def test_a_model_says_what_it_is() -> None:
    head = HeadConfig(kind="classification", labels=("good", "<bad>"))
    config = replace(family("bert").sized(32, 2), vocab_size=100, head=head, max_positions=64)
    lm = seedbed.new(config)
    size = sum(parameter.numel() for parameter in lm.module.parameters())
    assert repr(lm) == (
        "<LanguageModel: family bert, shape encoder, head classification (good, <bad>), "
        f"parameters {size:,}, "
        "context 64 tokens, tokenizer none, weights float32 on cpu>"
    )
    shown = rows(lm._repr_html_())
    assert shown["family"] == "bert" and shown["head"] == "classification (good, &lt;bad&gt;)"
    assert "context any length" in repr(seedbed.new(replace(family("lstm").sized(32, 1), vocab_size=99)))


def test_a_plan_and_a_run_say_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ["model.d_model=32", "model.num_layers=1", "tokenizer.kind=bytes", "training.context_tokens=32"]
    sizes += ["training.batch_tokens=128", "training.num_steps=3"]
    plan = seedbed.plan("gpt2", overrides=sizes)
    assert re.fullmatch(
        r"<Plan: parameters [\d,.]+( \w+)?, steps 3 of 128 tokens, time about .* \(.* to .*\), "
        r"peak memory about .*B, compute \S+ FLOPs, disk about .*B>",
        repr(plan),
    )
    assert rows(plan._repr_html_()).keys() >= {"parameters", "steps", "time", "peak memory"}
    huge = replace(plan, obstacle="the run needs more")
    assert repr(huge).startswith("<Plan: does not fit the run needs more, parameters")
    Path("text.txt").write_text("A small garden with seeds.\n\n" * 60)
    run = pretrain("text.txt", out="run", family="gpt2", overrides=sizes)
    assert re.match(
        r"<Run: run run, steps 3, did it work .*, time .*, model .*model, next seedbed .*>", repr(run)
    )
    assert rows(run._repr_html_())["steps"] == "3"
