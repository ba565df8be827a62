"""BERT."""

import torch
from tests.models.reference import make_pair, tiny

from seedbed.nn.layout import Layout


def masked_head(d_model: int, vocab_size: int) -> int:
    """Parameters of BERT's head, which published counts leave out: a matrix, a norm, a bias."""
    return d_model * d_model + 3 * d_model + vocab_size


CASES = {
    "bert": tiny("bert", num_heads=4, max_positions=60),
    "bert tanh, narrow": tiny("bert", num_heads=2, d_ff=96, activation="gelu_tanh", segment_types=3),
}
COUNTS = {
    "tiny": 4_385_920 + masked_head(128, 30_522),
    "mini": 11_170_560 + masked_head(256, 30_522),
    "small": 28_763_648 + masked_head(512, 30_522),
    "base": 109_482_240 + masked_head(768, 30_522),
    "large": 335_141_888 + masked_head(1024, 30_522),
}


def test_segments_equal_the_reference() -> None:
    oracle, module = make_pair(CASES["bert"])
    ids, segments = torch.arange(12), torch.tensor([0] * 5 + [1] * 7)
    with torch.no_grad():
        expected = oracle(input_ids=ids[None], token_type_ids=segments[None]).logits[0]
        found = module.output(module(ids, Layout.of([12]), segments=segments))
    assert (found - expected).abs().max() <= 2e-4
