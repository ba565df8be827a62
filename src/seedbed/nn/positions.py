"""Where a token stands: sinusoids, rotary angles, ALiBi slopes and T5's distance buckets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seedbed.nn.config import PositionConfig

Angles = tuple[Tensor, Tensor]


def sinusoidal_table(num_positions: int, d_model: int) -> Tensor:
    """The fixed positions of Vaswani et al. (1706.03762, section 3.5): (num_positions, d_model).

    Sines fill the first half and cosines the second, as in the implementations that published their weights.
    """
    frequency = 10_000 ** -(torch.arange(0, d_model, 2) / d_model)
    angle = torch.arange(num_positions)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[:, :d_model]


def rotary_frequencies(position: PositionConfig, head_dim: int) -> Tensor:
    """Radians a position turns each pair of a head: (head_dim / 2,), Su et al. 2104.09864, equation 15."""
    frequency = position.rotary_base ** -(torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim)
    scaling = position.scaling
    if scaling is None:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    turns = scaling.original_positions * frequency / (2 * math.pi)  # within the original context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return frequency * (keep + (1 - keep) / scaling.factor)


def rotary_angles(positions: Tensor, frequencies: Tensor) -> Angles:
    """Cosines and sines (N, 1, D/2) of the tokens' positions (N,), in float32."""
    angle = (positions[:, None] * frequencies)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, angles: Angles, *, interleaved: bool) -> Tensor:
    """Turn the pairs of x (N, heads, D): halves of a head, or neighbours where `interleaved`."""
    cos, sin = angles
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    turned = a * cos - b * sin, b * cos + a * sin
    y = torch.stack(turned, dim=-1).flatten(-2) if interleaved else torch.cat(turned, dim=-1)
    return y.to(x.dtype)  # under autocast the angles are float32 and x is not


def alibi_slopes(num_heads: int) -> Tensor:
    """The slope of each head (num_heads,), Press et al. 2108.12409; beyond a power of two in between."""
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(num_heads - power)]
    return torch.tensor(slopes)


def distance_buckets(distance: Tensor, position: PositionConfig, *, bidirectional: bool) -> Tensor:
    """T5's bucket of each key-minus-query distance, any shape (Raffel et al. 1910.10683, section 2.1).

    Half of the buckets are exact, the others grow logarithmically up to `max_distance`; where both
    directions are seen, each has half of all.
    """
    num_buckets = position.num_buckets
    bucket = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        bucket += (distance > 0) * num_buckets
        distance = distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = num_buckets // 2
    ratio = torch.log(distance.float().clamp(min=1) / exact) / math.log(position.max_distance / exact)
    far = (exact + (ratio * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return bucket + torch.where(distance < exact, distance, far)
