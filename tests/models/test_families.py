"""The contract of the room of families, for every file in it."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import (
    FAMILIES,
    build,
    export_tensors,
    family,
    import_tensors,
    initialize,
    parameter_count,
    preset,
)
from seedbed.nn.config import PositionConfig, RotaryScaling
from seedbed.nn.layout import Layout, restore, strip

TOLERANCE = 2e-4  # on logits of order 10, float32
VOCAB_SIZE = 101


def tiny(name: str, **changes: Any) -> Any:
    config = replace(family(name).sized(64, 3), vocab_size=VOCAB_SIZE, dropout=0.0)
    return replace(config, **changes)


def rotary(kind: str, **values: float) -> PositionConfig:
    return PositionConfig(kind="rotary", rotary_base=100.0, scaling=RotaryScaling(kind=kind, **values))


# With a base of 100 and 16 original positions, heads of 16 have frequencies in all three parts of the curve.
LLAMA3 = rotary("llama3", factor=8.0, original_positions=16)
CASES = {
    "gpt2": tiny("gpt2", num_heads=4, max_positions=60),
    "gpt2 narrow, untied": tiny(
        "gpt2", num_heads=2, d_ff=96, activation="relu", norm_eps=1e-3, tie_embeddings=False
    ),
    "llama": tiny("llama", num_heads=4),
    "llama grouped-query, llama3": tiny("llama", num_heads=4, num_kv_heads=2, position=LLAMA3),
    "llama multi-query, linear": tiny(
        "llama", num_heads=4, num_kv_heads=1, position=rotary("linear", factor=4.0), tie_embeddings=True
    ),
    "llama wide heads": tiny("llama", num_heads=4, head_dim=24, norm_eps=1e-3),
    "lstm": tiny("lstm"),
    "lstm tied": tiny("lstm", tie_embeddings=True),
    "gru": tiny("gru"),
    "seedling": tiny("seedling"),
}


class RecurrentOracle(nn.Module):
    """PyTorch's own network under the names that a bundle of ours has."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        network = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell]
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.rnn = network(config.d_model, config.d_model, config.num_layers, batch_first=True)
        self.unembed = None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.rnn(self.embed(ids))[0]
        return hidden @ self.embed.weight.T if self.unembed is None else self.unembed(hidden)


class SeedlingOracle(nn.Module):
    """The fast recipe's decoder written out for one document, every product apart."""

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

    def split(self, x: Tensor, *, turned: bool) -> Tensor:
        """(T, H D) -> (H, T, D); queries and keys normed, then turned as complex numbers."""
        x = x.unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        if not turned:
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
            q, k, v = (self.split(attn[part](h), turned=part != "v") for part in "qkv")
            scores = 2 * q @ k.transpose(1, 2) / math.sqrt(self.head_dim)
            mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
            x = x + attn["out"](mixed.transpose(0, 1).flatten(1))
            x = x + ffn["down"](ffn["up"](self.norm(x)).relu().square())
        return (15 * torch.tanh(self.unembed(self.norm(x)) / 15))[None]


# Families without a public class bring a reference of their own.
OWN_ORACLES: dict[str, Callable[[Any], nn.Module]] = {
    "lstm": RecurrentOracle,
    "gru": RecurrentOracle,
    "seedling": SeedlingOracle,
}


def make_oracle(config: Any) -> nn.Module:
    """The reference implementation, its memory of another seed than ours."""
    chosen = family(config.family)
    if chosen.architecture is None:
        return OWN_ORACLES[config.family](config).eval()
    values = chosen.write_config(config)
    theirs = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    return getattr(transformers, chosen.architecture)(theirs).eval()


def run_oracle(oracle: nn.Module) -> Callable[[Tensor, Tensor | None], Tensor]:
    def logits(ids: Tensor, source: Tensor | None) -> Tensor:
        output = oracle(ids[None])
        return (output if isinstance(output, Tensor) else output.logits)[0]

    return logits


def published(oracle: nn.Module, config: Any) -> dict[str, Tensor]:
    """The oracle's tensors as a file holds them: a tied one once."""
    tied = ["lm_head.weight"] if config.tie_embeddings else []
    return {name: tensor for name, tensor in oracle.state_dict().items() if name not in tied}


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, fill_randomly: Callable[..., None]) -> tuple[nn.Module, Any]:
    """A reference with random weights, and our network with the same."""
    config = CASES[request.param]
    oracle, module = make_oracle(config), build(config).eval()
    fill_randomly(oracle)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
        import_tensors(module, published(oracle, config))
    return oracle, module


def test_every_family_is_tested() -> None:
    assert {config.family for config in CASES.values()} == set(FAMILIES.names())


def test_logits_equal_the_reference(pair: Any, make_trial: Any) -> None:
    oracle, module = pair
    make_trial(module, run_oracle(oracle)).check_forward(TOLERANCE)


def test_decoding_equals_the_full_forward(pair: Any, make_trial: Any) -> None:
    oracle, module = pair
    make_trial(module, run_oracle(oracle)).check_decoding(TOLERANCE)


def test_weights_go_out_as_they_came_in(pair: Any) -> None:
    oracle, module = pair
    theirs, again = published(oracle, module.config), export_tensors(module)
    assert set(again) == set(theirs)
    assert all(torch.equal(again[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("lengths", [(7,), (7, 3, 12)])
@torch.no_grad()
def test_a_padded_row_equals_the_row_alone(pair: Any, lengths: tuple[int, ...]) -> None:
    module = pair[1]
    width = max(lengths) + 4
    found = {}
    for side in ("left", "right"):
        for filler in (0, 5):  # what lies in the padding is never read
            ids = torch.full((len(lengths), width), filler)
            mask = torch.zeros(len(lengths), width, dtype=torch.long)
            for r, n in enumerate(lengths):
                at = slice(width - n, None) if side == "left" else slice(n)
                ids[r, at], mask[r, at] = torch.arange(n) + 10 * r, 1
            flat, layout = strip(ids, mask)
            logits = restore(module.output(module(flat, layout)), mask)
            assert not logits[mask == 0].any()
            found[side, filler] = [logits[r, mask[r].bool()] for r in range(len(lengths))]
    for r, n in enumerate(lengths):
        alone = module.output(module(torch.arange(n) + 10 * r, Layout.of([n])))
        assert torch.isfinite(alone).all() and alone.abs().max() > 0.5
        for rows in found.values():
            assert torch.equal(rows[r], found["left", 0][r])
            assert (rows[r] - alone).abs().max() <= (0 if len(lengths) == 1 else TOLERANCE)


@torch.no_grad()
def test_a_saved_network_gives_the_same_logits(pair: Any, tmp_path: Path) -> None:
    module = pair[1]
    save_bundle(tmp_path / "bundle", module)
    again, tokenizer, _ = open_bundle(tmp_path / "bundle")
    write = family(module.config.family).write_config
    assert write(again.config) == write(module.config) and tokenizer is None
    ids, layout = torch.arange(20), Layout.of([13, 7])
    assert torch.equal(again.output(again(ids, layout)), module.output(module(ids, layout)))


@torch.no_grad()
def test_bfloat16_stays_near_float32(pair: Any) -> None:
    """Measured on these weights: 1.3 to 4.9% of the logits' size (2026-11-24)."""
    module = pair[1]
    half = build(module.config).to(torch.bfloat16).eval()
    import_tensors(half, export_tensors(module))
    ids = torch.randint(VOCAB_SIZE, (60,), generator=torch.Generator().manual_seed(0))
    layout = Layout.of([43, 17])
    exact, rounded = (m.output(m(ids, layout)) for m in (module, half))
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() <= 0.08 * exact.norm()


@pytest.mark.parametrize("case", CASES)
def test_packed_gradients_equal_the_sum_of_the_documents(
    case: str, make_trial: Any, fill_randomly: Callable[..., None]
) -> None:
    config = CASES[case]
    module = build(config)
    initialize(module, torch.Generator().manual_seed(0))
    fill_randomly(module, std=0.2)
    make_trial(module, run_oracle(module)).check_packed_gradients()


COUNTS = {
    "gpt2:124m": 124_439_808,
    "gpt2:355m": 354_823_168,
    "gpt2:774m": 774_030_080,
    "gpt2:1558m": 1_557_611_200,
    "llama:7b": 6_738_415_616,
    "llama:13b": 13_015_864_320,
    "llama:33b": 32_528_943_616,
    "llama:65b": 65_285_660_672,
    "llama:2-7b": 6_738_415_616,
    "llama:2-13b": 13_015_864_320,
    "llama:2-70b": 68_976_648_192,
    "llama:3-8b": 8_030_261_248,
    "llama:3.1-8b": 8_030_261_248,
    "llama:3.1-70b": 70_553_706_496,
    "llama:3.2-1b": 1_235_814_400,
    "llama:3.2-3b": 3_212_749_824,
    "lstm:small": 4_653_200,
    "lstm:medium": 19_780_400,  # Zaremba et al. say 20 and 66 million
    "lstm:large": 66_034_000,
    "gru:small": 4_492_400,
    "gru:medium": 18_087_800,
    "gru:large": 57_028_000,
    "seedling:1m": 1_835_008,
    "seedling:11m": 13_762_560,
    "seedling:85m": 91_226_112,
}


def test_every_preset_has_its_published_number_of_parameters() -> None:
    presets = [f"{name}:{size}" for name in FAMILIES.names() for size in family(name).presets]
    assert {name: parameter_count(preset(name)) for name in presets} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_a_config_survives_its_json(name: str) -> None:
    chosen = family(name.split(":")[0])
    written = json.loads(json.dumps(chosen.write_config(preset(name))))
    assert chosen.write_config(chosen.read_config(written)) == written
    assert parameter_count(chosen.read_config(written)) == COUNTS[name]


@pytest.mark.parametrize("name", FAMILIES.names())
def test_initialisation_fills_everything_from_the_generator_alone(name: str) -> None:
    def fresh(seed: int) -> list[Tensor]:
        module = build(tiny(name))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(torch.nan)
        initialize(module, torch.Generator().manual_seed(seed))
        return list(module.parameters())

    before = torch.get_rng_state()
    first, same, other = fresh(0), fresh(0), fresh(1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.isfinite(w).all() for w in first)
    assert all(map(torch.equal, first, same))
    assert not all(map(torch.equal, first, other))


@pytest.mark.parametrize("name", [name for name in FAMILIES.names() if family(name).architecture])
def test_initialisation_has_the_statistics_of_the_reference(name: str) -> None:
    config = replace(tiny(name), d_model=128, num_heads=4, d_ff=512, num_layers=5, vocab_size=501)
    oracle, module = make_oracle(config), build(config)
    initialize(module, torch.Generator().manual_seed(0))
    ours = export_tensors(module)
    for name_, theirs in published(oracle, config).items():
        mine = ours[name_]
        if theirs.std() == 0:
            assert torch.equal(mine, theirs), name_
        else:
            error = 5 * mine.std() / math.sqrt(mine.numel())  # five standard errors
            assert abs(mine.mean()) < error and abs(mine.std() - theirs.std()) < error, name_


def test_a_seedling_starts_as_its_recipe_says() -> None:
    module: Any = build(tiny("seedling", num_layers=1))
    initialize(module, torch.Generator().manual_seed(0))
    assert abs(module.embed.weight.std() - 1) < 0.03 and abs(module.embed.weight.mean()) < 0.05
    block = module.decoder.blocks[0]
    for product in (block.attn.qkv, block.ffn.inner):  # uniform of variance 1 / d_model
        assert abs(product.weight.std() - 64**-0.5) < 0.003
        assert product.weight.abs().max() <= (3 / 64) ** 0.5
    assert not any(
        weight.any() for weight in (block.attn.out.weight, block.ffn.down.weight, module.unembed.weight)
    )
