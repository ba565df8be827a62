"""Tiny real networks of both kinds: attention with learned and with rotary positions, recurrence."""

from dataclasses import replace

import pytest
import torch

from seedbed.models.family import Network
from seedbed.models.network import build, family
from seedbed.nn.config import ModelConfig
from seedbed.text.tokenizer import Tokenizer, train_tokenizer

KINDS = ("gpt2", "llama", "lstm", "gru")
VOCAB, CONTEXT = 300, 48


def make(kind: str) -> Network:
    """A network whose logits are far apart, so that rounding decides nothing."""
    config = replace(family(kind).sized(32, 2), vocab_size=VOCAB)
    if isinstance(config, ModelConfig):
        config = replace(config, max_positions=CONTEXT)
        if kind == "llama":
            config = replace(config, num_heads=4, num_kv_heads=2, head_dim=8)
    module, generator = build(config), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(std=0.5, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return module.eval()


@pytest.fixture(scope="session", params=KINDS)
def module(request: pytest.FixtureRequest) -> Network:
    return make(request.param)


@pytest.fixture(scope="session")
def gpt2() -> Network:
    return make("gpt2")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """257 tokens of one byte each and the end of a document, id 256."""
    return train_tokenizer(["text"], "bytes", vocab_size=257)
