"""LSTM language models (Zaremba et al. 1409.2329); no public class loads them, so the bundle is our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from seedbed.models.family import Family
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.weights import Rule
from seedbed.nn.config import RecurrentConfig
from seedbed.nn.recurrent import GRU_GATES, LSTM_GATES


def rules(config: RecurrentConfig) -> Sequence[Rule]:
    """Names of `torch.nn.LSTM` and `torch.nn.GRU`, which store the gates fused."""
    listed = [Rule("embed", "embed")]
    gates = LSTM_GATES if config.cell == "lstm" else GRU_GATES
    for kind in ("weight", "bias"):
        for ours, theirs in (("read", "ih"), ("recur", "hh")):
            names = tuple(f"layers.{{i}}.{ours}_{gate}.{kind}" for gate in gates)
            listed.append(Rule(names, f"rnn.{kind}_{theirs}_l{{i}}"))
    return listed if config.tie_embeddings else [*listed, Rule("unembed", "unembed")]


@torch.no_grad()
def initialize(module: RecurrentNetwork, generator: torch.Generator) -> None:
    """Every parameter uniform(-init_range, init_range)."""
    limit = module.config.init_range
    for parameter in module.parameters():
        parameter.uniform_(-limit, limit, generator=generator)


def recurrent_family(cell: Literal["lstm", "gru"]) -> Family:
    """The family of a cell, in Zaremba's sizes: two layers over 10,000 words."""
    base = RecurrentConfig(family=cell, cell=cell, vocab_size=10_000, d_model=1, num_layers=2)
    return Family(
        name=cell,
        presets={
            "small": replace(base, d_model=200, init_range=0.1),
            "medium": replace(base, d_model=650, dropout=0.5, init_range=0.05),
            "large": replace(base, d_model=1500, dropout=0.65, init_range=0.04),
        },
        sized=lambda d_model, num_layers: replace(base, d_model=d_model, num_layers=num_layers),
        rules=rules,
        initialize=initialize,
    )


FAMILY = recurrent_family("lstm")
