"""The fast recipe, beside one written out for a single document."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.models.reference import tiny
from torch import Tensor, nn

from seedbed.models.families import seedling
from seedbed.models.network import build, initialize
from seedbed.nn.config import (
    PARALLEL,
    POST,
    PRE,
    EncoderConfig,
    HeadConfig,
    PositionConfig,
    ResidualConfig,
    RotaryScaling,
)


class SeedlingOracle(nn.Module):
    """The fast recipe's decoder written out for one document, with one matmul per part."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        d, self.num_heads, self.head_dim = config.d_model, config.num_heads, config.d_head

        def linear(d_in: int, d_out: int) -> nn.Linear:
            return nn.Linear(d_in, d_out, bias=False)

        def block() -> nn.ModuleDict:
            attn = nn.ModuleDict({part: linear(d, d) for part in ("q", "k", "v", "out")})
            ffn = nn.ModuleDict({"up": linear(d, 4 * d), "down": linear(4 * d, d)})
            return nn.ModuleDict({"attn": attn, "ffn": ffn})

        self.embed, self.unembed = nn.Embedding(config.vocab_size, d), linear(d, config.vocab_size)
        self.decoder = nn.ModuleDict({"blocks": nn.ModuleList(block() for _ in range(config.num_layers))})

    @staticmethod
    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    def split(self, x: Tensor, *, rotated: bool) -> Tensor:
        """(T, H D) -> (H, T, D); queries and keys normed, then rotated as complex numbers."""
        x = x.unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        if not rotated:
            return x
        half = self.head_dim // 2
        x = torch.complex(*self.norm(x).split(half, dim=-1))
        angle = torch.outer(torch.arange(x.size(1)), 10_000 ** (-torch.arange(half) / half))
        x = x * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([x.real, x.imag], dim=-1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.embed(ids[0]))
        future = torch.ones(len(x), len(x)).triu(1).bool()
        for block in self.decoder["blocks"]:
            attn, ffn, h = block["attn"], block["ffn"], self.norm(x)
            q, k, v = (self.split(attn[part](h), rotated=part != "v") for part in "qkv")
            scores = 2 * q @ k.transpose(1, 2) / math.sqrt(self.head_dim)
            mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
            x = x + attn["out"](mixed.transpose(0, 1).flatten(1))
            x = x + ffn["down"](ffn["up"](self.norm(x)).relu().square())
        return (15 * torch.tanh(self.unembed(self.norm(x)) / 15))[None]


oracle = SeedlingOracle
CASES = {
    "seedling": tiny("seedling"),
}
COUNTS = {
    "1m": 1_835_008,
    "11m": 13_762_560,
    "85m": 91_226_112,
}


def test_a_seedling_starts_as_its_recipe_says() -> None:
    module: Any = build(tiny("seedling", num_layers=1))
    initialize(module, torch.Generator().manual_seed(0))
    assert abs(module.embed.weight.std() - 1) < 0.03 and abs(module.embed.weight.mean()) < 0.05
    block = module.decoder.blocks[0]
    for projection in (block.attn.qkv, block.ffn.inner):  # uniform of variance 1 / d_model
        assert abs(projection.weight.std() - 64**-0.5) < 0.003
        assert projection.weight.abs().max() <= (3 / 64) ** 0.5
    assert not any(
        weight.any() for weight in (block.attn.out.weight, block.ffn.down.weight, module.unembed.weight)
    )


ODD = replace(
    seedling.sized(64, 2),
    num_heads=4,
    position=PositionConfig(kind="rotary", scaling=RotaryScaling(kind="linear", factor=2.0)),
    encoder=EncoderConfig(num_layers=1, num_heads=2, d_ff=8),
    head=HeadConfig(kind="tagging", labels=("a", "b")),
).with_attention(num_kv_heads=1, head_dim=16, window=7)
# As config.json had ODD until 2026-11: attention's fields between the others, the norms' places as a word.
LEGACY = """
{"model_type": "seedbed_seedling", "shape": "decoder", "vocab_size": 4096, "d_model": 64,
"num_layers": 2, "num_heads": 4, "d_ff": 256, "num_kv_heads": 1, "head_dim": 16, "max_positions":
256, "position": {"kind": "rotary", "offset": 0, "rotary_base": 10000.0, "rotary_interleaved":
false, "scaling": {"kind": "linear", "factor": 2.0, "low_frequency_factor": 1.0,
"high_frequency_factor": 4.0, "original_positions": 8192}, "num_buckets": 32, "max_distance": 128,
"window": 7}, "encoder": {"num_layers": 1, "num_heads": 2, "d_ff": 8}, "segment_types": 0, "norm":
"layer_plain", "norm_eps": 1e-05, "residual": "parallel", "activation": "relu_squared", "gated_ffn":
false, "bias": "none", "qk_norm": "plain", "attention_scale": 0.3535533905932738, "embedding_scale":
1.0, "embedding_norm": true, "output_scale": 1.0, "logit_cap": 15.0, "head": {"kind": "tagging",
"pooler": false, "dense": false, "labels": ["a", "b"], "several_labels": false}, "tie_embeddings":
false, "dropout": 0.0}
"""


@pytest.mark.parametrize(("word", "residual"), [("pre", PRE), ("post", POST), ("parallel", PARALLEL)])
def test_a_legacy_config_without_tables_is_read(word: str, residual: ResidualConfig) -> None:
    values = json.loads(LEGACY) | {"residual": word}
    assert seedling.FAMILY.read_config(values) == replace(ODD, residual=residual)


@pytest.mark.parametrize("residual", [PRE, POST, PARALLEL])
def test_a_config_with_tables_survives_its_json(residual: ResidualConfig) -> None:
    config = replace(ODD, residual=residual)
    written = json.loads(json.dumps(seedling.FAMILY.write_config(config)))
    assert written == seedling.FAMILY.write_config(config) and seedling.FAMILY.read_config(written) == config
    assert written["attention"]["num_kv_heads"] == 1 and "num_kv_heads" not in written
