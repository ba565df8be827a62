"""Vectors of texts: each row as if it stood alone, of every kind of network."""

from typing import Any

import pytest
import torch

import seedbed
from seedbed.base.errors import UsageError
from seedbed.generation import scoring
from seedbed.nn.layout import Layout

ROWS = [[5, 6, 7], [9], [4] * 20, [8, 3]]


def model(name: str) -> Any:
    from dataclasses import replace

    from seedbed.models.network import family

    return seedbed.new(replace(family(name).sized(64, 2), vocab_size=31, dropout=0.5))


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "lstm"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_rows_together_give_what_each_gives_alone(
    name: str, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = model(name)
    together = lm.embed(ROWS, pooling=pooling)
    assert together.shape == (4, 64) and together.dtype == torch.float32
    monkeypatch.setattr(scoring, "PASS_TOKENS", 3)
    for row, vector, small in zip(ROWS, together, lm.embed(ROWS, pooling=pooling), strict=True):
        module, ids, layout = lm.module.eval(), torch.tensor(row), Layout.of([len(row)])
        with torch.no_grad():
            hidden = module.encode(ids, layout) if name == "t5" else module(ids, layout)
        expected = hidden.mean(0) if pooling == "mean" else hidden[0]
        assert (vector - expected).abs().max() < 1e-5 and (small - expected).abs().max() < 1e-5
        assert (lm.embed(row, pooling=pooling) - expected).abs().max() < 1e-5


def test_what_cannot_be_embedded_is_refused() -> None:
    lm = model("bert")
    for given, words in (([[]], "a text is empty"), ([[99]], "not in the vocabulary"), ([[1] * 600], "512")):
        with pytest.raises(UsageError, match=words):
            lm.embed(given)
    with pytest.raises(UsageError, match="pooling='max' is unknown"):
        lm.embed(ROWS, pooling="max")
    with pytest.raises(UsageError, match="needs a tokenizer"):
        lm.embed("a text")
    for odd in (3, None, {"a": 1}, iter(["a"])):
        for call in (lm.embed, lm.classify, lm.tag, model("gpt2").generate):
            with pytest.raises(UsageError, match=r"is neither a text nor a list|this network has no"):
                call(odd)
    with pytest.raises(UsageError, match="pooling=3 is unknown"):
        lm.embed(ROWS, pooling=3)
    assert lm.embed([]).shape == (0, 64)
    assert torch.allclose(lm.embed(ROWS, normalize=True).norm(dim=-1), torch.ones(4))
