"""LSTM language models (Zaremba et al. 1409.2329); no public class loads them, so the layout is ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from seedbed.models import initialization
from seedbed.models.family import Config, Family, own_config, read_own_config
from seedbed.models.recurrent import RecurrentNetwork
from seedbed.models.weights import Rule
from seedbed.nn.config import RecurrentConfig
from seedbed.nn.recurrent import GRU_GATES, LSTM_GATES


def read_config(values: Mapping[str, Any]) -> Config:
    """Our own `config.json` -> the config."""
    return read_own_config(values, RecurrentConfig)


def rules(config: RecurrentConfig) -> Sequence[Rule]:
    """Names of `torch.nn.LSTM` and `torch.nn.GRU`, whose gates are stored fused."""
    listed = [Rule("embed", "embed")]
    gates = LSTM_GATES if config.cell == "lstm" else GRU_GATES
    for kind in ("weight", "bias"):
        for ours, theirs in (("read", "ih"), ("recur", "hh")):
            names = tuple(f"layers.{{i}}.{ours}_{gate}.{kind}" for gate in gates)
            listed.append(Rule(names, f"rnn.{kind}_{theirs}_l{{i}}"))
    return listed if config.tie_embeddings else [*listed, Rule("unembed", "unembed")]


def initialize(module: RecurrentNetwork, generator: torch.Generator) -> None:
    """Every parameter uniform(-init_range, init_range)."""
    initialization.uniform(module, generator, limit=module.config.init_range)


def recurrent_family(cell: Literal["lstm", "gru"], presets: Mapping[str, tuple[int, float, float]]) -> Family:
    """The family of a cell; presets are (d_model, dropout, init_range) of two layers over 10,000 words."""

    def sized(d_model: int, num_layers: int) -> RecurrentConfig:
        return RecurrentConfig(
            family=cell, cell=cell, vocab_size=10_000, d_model=d_model, num_layers=num_layers
        )

    return Family(
        name=cell,
        model_types=(f"seedbed_{cell}",),
        presets={
            size: RecurrentConfig(
                family=cell,
                cell=cell,
                vocab_size=10_000,
                d_model=d_model,
                num_layers=2,
                dropout=dropout,
                init_range=init_range,
            )
            for size, (d_model, dropout, init_range) in presets.items()
        },
        read_config=read_config,
        write_config=own_config,
        sized=sized,
        rules=rules,
        initialize=initialize,
    )


FAMILY = recurrent_family(
    "lstm", {"small": (200, 0.0, 0.1), "medium": (650, 0.5, 0.05), "large": (1500, 0.65, 0.04)}
)
