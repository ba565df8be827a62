"""Positions of tokens: sinusoids, rotary angles, ALiBi slopes and T5's distance buckets."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    """Radians per position of each pair of a head: (head_dim / 2,), Su et al. 2104.09864, equation 15."""
    if torch.get_default_device().type == "meta":
        # Only the shape matters: the code below makes torch load its compiler, 0.7 s and 76 MB (2026-11-24).
        return torch.empty(head_dim // 2)
    frequency = position.rotary_base ** -(torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim)
    scaling = position.scaling
    if scaling is None:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    rotations = scaling.original_positions * frequency / (2 * math.pi)  # within the original context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep = ((rotations - low) / (high - low)).clamp(0, 1)
    return frequency * (keep + (1 - keep) / scaling.factor)


def rotary_angles(positions: Tensor, frequencies: Tensor) -> Angles:
    """Cosines and sines (N, 1, D/2) of the tokens' positions (N,), in float32."""
    angle = (positions[:, None] * frequencies)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, angles: Angles, *, interleaved: bool) -> Tensor:
    """Rotate the pairs of x (N, heads, D): entries of its two halves, or neighbours where `interleaved`."""
    if torch.is_grad_enabled() and x.requires_grad:
        rotated: Tensor = _Rotation.apply(x, *angles, interleaved)  # type: ignore[no-untyped-call]
        return rotated
    return _rotate(x, angles, interleaved=interleaved, sign=1)


def _rotate(x: Tensor, angles: Angles, *, interleaved: bool, sign: int) -> Tensor:
    cos, sin = angles
    y = torch.empty_like(x)
    a, b = _halves(x, interleaved)
    to_a, to_b = _halves(y, interleaved)
    if x.dtype != cos.dtype:  # under autocast the angles are float32 and x is not
        to_a.copy_(a * cos - sign * b * sin)
        to_b.copy_(b * cos + sign * a * sin)
    else:
        torch.mul(a, cos, out=to_a).addcmul_(b, sin, value=-sign)
        torch.mul(b, cos, out=to_b).addcmul_(a, sin, value=sign)
    return y


def _halves(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    if interleaved:
        return x[..., 0::2], x[..., 1::2]
    a, b = x.chunk(2, dim=-1)
    return a, b


class _Rotation(torch.autograd.Function):
    """Its backward pass rotates by the opposite angles; autograd's took a tenth of a small network's time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        """Forward."""
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return _rotate(x, (cos, sin), interleaved=interleaved, sign=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Backward."""
        return _rotate(gradient, ctx.saved_tensors, interleaved=ctx.interleaved, sign=-1), None, None, None


def alibi_slopes(num_heads: int) -> Tensor:
    """The slope of each head (num_heads,), Press et al. 2108.12409, interpolated beyond a power of two."""
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(num_heads - power)]
    return torch.tensor(slopes)


def distance_buckets(distance: Tensor, position: PositionConfig, *, bidirectional: bool) -> Tensor:
    """T5's bucket of each key-minus-query distance, any shape (Raffel et al. 1910.10683, section 2.1).

    Half of the buckets are exact, the others grow logarithmically up to `max_distance`; a bidirectional
    stack uses one half of all for each direction.
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
