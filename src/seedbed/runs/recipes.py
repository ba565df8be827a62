"""Recipes: settings that belong together, laid under what a user sets. Loads no torch."""

from __future__ import annotations

from typing import Any

from seedbed.base.errors import UsageError, nearest

# Explored on one text and one seed in a script outside the package (docs/LOG.md, 2026-11-24).
_MUON = {
    "optimizer": "muon",
    "learning_rate": 0.01,
    "matrix_learning_rate": 0.02,
    "beta1": 0.8,
    "beta2": 0.95,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "schedule": "wsd",
    "cooldown_fraction": 1.0,
    "min_learning_rate_ratio": 0.0,
    "warmup_steps": 20,
}
RECIPES: dict[str, dict[str, Any]] = {
    # Muon, norms without parameters, squared ReLU, small batches: see families/seedling.py.
    "fast": {
        "model": {"family": "seedling", "d_model": 96, "num_layers": 4},
        "training": {"batch_tokens": 1024, "context_tokens": 128} | _MUON,
    },
    # nanoGPT's published setting for a CPU: small GPT-2, AdamW, no dropout.
    "classic": {
        "model": {"family": "gpt2", "d_model": 128, "num_layers": 4, "num_heads": 4, "dropout": 0.0},
        "training": {
            "batch_tokens": 768,
            "context_tokens": 64,
            "num_steps": 2000,
            "evaluate_every_steps": 250,
            "learning_rate": 1e-3,
            "min_learning_rate_ratio": 0.1,
            "warmup_steps": 100,
            "beta2": 0.99,
            "weight_decay": 0.1,
        },
    },
}


def recipe(name: str) -> dict[str, Any]:
    """The settings of a recipe, as the tables of a TOML file."""
    if name not in RECIPES:
        raise UsageError(f"no recipe is named {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]
