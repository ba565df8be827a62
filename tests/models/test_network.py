"""Names, presets and published tensors: what matches is loaded, the rest is refused in one line."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.base.errors import BundleError, ConfigError, UsageError
from seedbed.models.network import build, export_tensors, family, import_tensors, initialize, preset
from seedbed.models.weights import Rule, export_weights, import_weights

FUSED = "transformer.h.0.attn.c_attn.weight"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("gtp2:124m", UsageError, "no family is named 'gtp2'; did you mean 'gpt2'? allowed: "),
        ("gpt2:125m", ConfigError, "gpt2 has no preset '125m'; did you mean '124m'? allowed: "),
        ("gpt2", ConfigError, "'gpt2' names a family without a size; write gpt2:SIZE, allowed: 124m"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    name: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        preset(name)


@pytest.fixture(scope="module")
def module() -> Any:
    network = build(family("gpt2").sized(64, 3))
    initialize(network, torch.Generator().manual_seed(0))
    return network


def test_a_missing_tensor_is_named(module: Any) -> None:
    theirs = export_tensors(module)
    del theirs[FUSED]
    with pytest.raises(BundleError, match=f"1 tensors are missing from the weights, first {FUSED};"):
        import_tensors(module, theirs)


def test_an_unknown_tensor_is_named(module: Any) -> None:
    theirs = export_tensors(module) | {"extra.weight": torch.ones(1), "more": torch.ones(1)}
    with pytest.raises(
        BundleError, match=r"have 2 tensors that this config has no place for, first extra\.weight"
    ):
        import_tensors(module, theirs)


@pytest.mark.parametrize("change", [lambda w: w.T, lambda w: w[:, :-1], lambda w: w[0], lambda w: w[None]])
def test_a_shape_is_reported_as_in_the_file(module: Any, change: Any) -> None:
    theirs = export_tensors(module)
    theirs[FUSED] = change(theirs[FUSED])
    shape = re.escape(f"{FUSED} has the shape {tuple(theirs[FUSED].shape)}, but the config needs (64, 192);")
    with pytest.raises(BundleError, match=shape):
        import_tensors(module, theirs)


def test_parts_stored_head_by_head_go_both_ways() -> None:
    """BLOOM stores q, k and v of each head next to each other."""
    rule, shape = Rule(("q", "k", "v"), "qkv", "per_head"), {"num_layers": 1, "num_heads": 3}
    ours = {f"{part}.weight": torch.full((6, 2), float(i)) for i, part in enumerate("qkv")}
    theirs = export_weights(ours, [rule], **shape)
    assert theirs["qkv.weight"][:, 0].tolist() == [0, 0, 1, 1, 2, 2] * 3
    again: dict[str, Tensor] = {name: torch.empty(6, 2) for name in ours}
    import_weights(theirs, again, [rule], **shape)
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    with pytest.raises(
        BundleError, match=r"qkv.weight has the shape \(17, 2\), but the config needs \(18, 2\)"
    ):
        import_weights({"qkv.weight": torch.ones(17, 2)}, again, [rule], **shape)
