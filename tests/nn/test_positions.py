"""Positions equal the papers' formulas and transformers' functions."""

import math
from typing import Any

import pytest
import torch
import transformers
from tests.nn.variants import words
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from seedbed.nn.config import PositionConfig, RotaryScaling
from seedbed.nn.positions import (
    alibi_slopes,
    distance_buckets,
    rotary_angles,
    rotary_frequencies,
    rotate,
    sinusoidal_table,
)


@pytest.fixture(params=[8, 9])
def d_model(request: pytest.FixtureRequest) -> int:
    return request.param


def test_sinusoids_are_those_of_the_paper(d_model: int) -> None:
    table = sinusoidal_table(50, d_model)
    half = math.ceil(d_model / 2)
    for position in (0, 1, 7, 49):
        for i in range(half):
            angle = position / 10_000 ** (2 * i / d_model)
            assert abs(table[position, i] - math.sin(angle)) < 1e-5
            if half + i < d_model:
                assert abs(table[position, half + i] - math.cos(angle)) < 1e-5
    assert table.shape == (50, d_model)


SCALINGS: dict[str, tuple[RotaryScaling | None, dict[str, Any]]] = {
    "none": (None, {}),
    "linear": (RotaryScaling(kind="linear", factor=4.0), {"rope_type": "linear", "factor": 4.0}),
    "llama 3.1": (
        RotaryScaling(kind="llama3", factor=8.0),
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    ),
    "another": (
        RotaryScaling(
            kind="llama3",
            factor=32.0,
            low_frequency_factor=2.0,
            high_frequency_factor=9.0,
            original_positions=512,
        ),
        {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 2.0,
            "high_freq_factor": 9.0,
            "original_max_position_embeddings": 512,
        },
    ),
}


def test_every_kind_of_scaling_has_a_reference() -> None:
    assert {scaling.kind for scaling, _ in SCALINGS.values() if scaling} == set(words(RotaryScaling, "kind"))


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize(("base", "head_dim"), [(10_000.0, 64), (500_000.0, 128), (100.0, 8)])
def test_rotary_frequencies_equal_the_reference(name: str, base: float, head_dim: int) -> None:
    scaling, theirs = SCALINGS[name]
    config = transformers.LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=131_072,
        rope_parameters={"rope_type": "default", "rope_theta": base} | theirs,
    )
    if scaling is None:
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
        expected = rotary.compute_default_rope_parameters(config)[0]
    else:
        expected, factor = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, "cpu")
        assert factor == 1.0
    position = PositionConfig(kind="rotary", rotary_base=base, scaling=scaling)
    assert torch.allclose(rotary_frequencies(position, head_dim), expected, rtol=3e-6, atol=0)


def test_scaling_changes_some_frequencies_and_not_others() -> None:
    plain, scaled = (
        rotary_frequencies(PositionConfig(kind="rotary", rotary_base=500_000.0, scaling=scaling), 128)
        for scaling in (None, RotaryScaling(kind="llama3", factor=8.0))
    )
    ratio = plain / scaled
    assert (ratio == 1).sum() > 20 and (ratio == 8).sum() > 10
    assert ((ratio > 1.01) & (ratio < 7.99)).sum() > 3


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_is_multiplication_by_a_complex_number(interleaved: bool) -> None:
    """Su et al., equation 13: pair i of the token at m is rotated by m times frequency i."""
    x = torch.randn(7, 3, 8, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 1, 2, 0, 5, 1000, 100_000])
    frequencies = rotary_frequencies(PositionConfig(kind="rotary"), 8)
    rotated = rotate(x, rotary_angles(positions, frequencies), interleaved=interleaved)
    pairs = x.unflatten(-1, (4, 2)) if interleaved else x.unflatten(-1, (2, 4)).transpose(-1, -2)
    angle = torch.outer(positions.double(), frequencies.double())[:, None]
    exact = torch.view_as_complex(pairs.double().contiguous()) * torch.polar(torch.ones_like(angle), angle)
    expected = torch.view_as_real(exact)
    expected = expected.flatten(-2) if interleaved else expected.transpose(-1, -2).flatten(-2)
    # A float32 angle of 100,000 is exact to 0.004: the oracles round it too.
    assert (rotated - expected)[:6].abs().max() < 2e-4
    assert (rotated - expected)[6].abs().max() < 2e-2


def test_rotated_products_depend_on_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 16, generator=generator)
    frequencies = rotary_frequencies(PositionConfig(kind="rotary"), 16)

    def score(m: int, n: int) -> Tensor:
        rotated = [
            rotate(x[None], rotary_angles(torch.tensor([at]), frequencies), interleaved=False)
            for x, at in ((q, m), (k, n))
        ]
        return (rotated[0] * rotated[1]).sum()

    assert abs(score(3, 1) - score(40, 38)) < 1e-4
    assert abs(score(3, 1) - score(3, 2)) > 1e-2


@pytest.mark.parametrize("num_heads", [1, 2, 3, 4, 6, 8, 12, 16, 20, 32, 112])
def test_alibi_slopes_equal_the_reference(num_heads: int) -> None:
    """At position 1 BLOOM's bias is the slope itself."""
    bias = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)
    assert torch.allclose(alibi_slopes(num_heads), bias[:, 0, 1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (16, 64), (8, 20)])
def test_buckets_equal_the_reference(bidirectional: bool, num_buckets: int, max_distance: int) -> None:
    distance = torch.arange(-300, 301).view(1, -1)
    expected = T5Attention._relative_position_bucket(
        distance, bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance
    )
    position = PositionConfig(kind="buckets", num_buckets=num_buckets, max_distance=max_distance)
    found = distance_buckets(distance, position, bidirectional=bidirectional)
    assert torch.equal(found, expected)
    assert found.min() == 0 and found.max() == num_buckets - 1


@pytest.mark.parametrize("head_dim", [2, 64, 2**40])
def test_frequencies_without_memory_have_their_shape_alone(head_dim: int) -> None:
    """Counting parameters neither computes angles nor makes torch load its compiler."""
    with torch.device("meta"):
        frequencies = rotary_frequencies(PositionConfig(kind="rotary"), head_dim)
    assert frequencies.shape == (head_dim // 2,) and frequencies.is_meta
