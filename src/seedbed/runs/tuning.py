"""Tuning a base: the training settings that differ from those from scratch, and the adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from seedbed.base.errors import ConfigError
from seedbed.base.runtime import derive_seed
from seedbed.models.adapter import METHODS
from seedbed.models.family import Config, Network
from seedbed.runs.settings import RunSettings, decided
from seedbed.training.settings import TrainingSettings

FULL = "none"  # the method that trains all weights
METHOD = "lora"  # the default of `tune`
RATES = ("learning_rate", "matrix_learning_rate")
# Of the rates of a training from scratch: 1e-4 for AdamW (docs/LOG.md), T5's 1e-3 for Adafactor (1910.10683).
TUNING_SHARE = 0.1
# 8 to 32 records of usual lengths, the steps with which papers tune (BERT 1810.04805, appendix A.3): with the
# default from scratch, a few thousand records are a step or two.
TUNING_BATCH_TOKENS = 1024
# Half of the activations of a step; with 256 the weights are read so often that a step takes longer.
CPU_MICRO_BATCH_TOKENS = 512
# Of labelled records; evaluations near each other find the best step. Their numbers are not measured yet.
RECORDS = {"num_passes": 3.0, "evaluate_every_steps": 20}
HELD_OUT = 0.1  # of a few hundred records 0.05 would be too few for a figure


def default_tables(
    own: Mapping[str, Any],
    config: Config,
    chosen: Mapping[str, Any],
    *,
    method: str | None,
    is_tuning: bool,
    is_text: bool,
) -> dict[str, dict[str, Any]]:
    """The defaults of a run by table, beside `chosen`, what its `[training]` says.

    `own` are those of the family, unless an optimizer is chosen. A context is not longer than a step.
    """
    training: dict[str, Any] = {} if "optimizer" in chosen else dict(own)
    data: dict[str, Any] = {}
    if is_tuning:
        training = _tuning_defaults(training, config, method, chosen=chosen, is_text=is_text)
        data = {} if is_text else {"validation_fraction": HELD_OUT}
    step = chosen.get("batch_tokens")
    if isinstance(step, int) and step > 0:
        context = training.get("context_tokens", TrainingSettings.context_tokens)
        training["context_tokens"] = min(context, step)
    return {"training": training, "data": data}


def _tuning_defaults(
    own: Mapping[str, Any], config: Config, method: str | None, *, chosen: Mapping[str, Any], is_text: bool
) -> dict[str, Any]:
    """The defaults of `[training]` from a base, whose family trains with `own` from scratch.

    Records are read a few times, unless `chosen`, the settings that are given, say how long.
    """
    fresh = {name: own.get(name, getattr(TrainingSettings, name)) for name in RATES}
    found = dict(own) | {name: rate * TUNING_SHARE for name, rate in fresh.items()}
    found |= {"batch_tokens": TUNING_BATCH_TOKENS} | context_within(config)
    if not is_text:
        found["context_tokens"] = min(TUNING_BATCH_TOKENS, config.max_positions or TUNING_BATCH_TOKENS)
        found |= {name: value for name, value in RECORDS.items() if "num_steps" not in chosen}
    return found if method is None else found | dict(METHODS.get(method).training)


def context_within(config: Config) -> dict[str, int]:
    """The default `training.context_tokens`, or that of the network if it is shorter."""
    default = TrainingSettings.context_tokens
    return {} if config.max_positions is None else {"context_tokens": min(default, config.max_positions)}


def peft_method(table: Mapping[str, Any], *, has_base: bool) -> str | None:
    """The method that the `[peft]` table names, None for full training. Errors: ConfigError, UsageError."""
    method = table.get("method")
    if method is None and table:
        raise ConfigError(
            f"peft.{next(iter(table))} belongs to a method; name it with --peft lora or peft.method=lora"
        )
    if method is None or method == FULL:
        if len(table) > 1:
            other = next(name for name in table if name != "method")
            raise ConfigError(f"peft.{other} has no effect with peft.method=none, which trains all weights")
        return None
    METHODS.require(str(method))
    if not has_base:
        raise ConfigError(f"peft.method={method} adapts a model that exists; name one with --base MODEL")
    return str(method)


def micro_batched(settings: RunSettings, device: torch.device) -> RunSettings:
    """The settings with the micro-batches of tuning on this device, where they have none."""
    is_tuning = settings.model.base is not None or settings.peft is not None
    if settings.training.micro_batch_tokens or not is_tuning or device.type != "cpu":
        return settings
    return decided(settings, micro_batch_tokens=CPU_MICRO_BATCH_TOKENS)


def with_base_type(settings: RunSettings) -> RunSettings:
    """The settings with the precision that follows from the type of the base's weights.

    Errors: ConfigError for another precision, and for a type of weights that are trained themselves.
    """
    dtype, precision = settings.model.dtype, settings.training.precision
    if dtype is None or dtype == "float32":
        return settings
    if settings.peft is None:
        raise ConfigError(
            f"model.dtype={dtype} is for a base beside an adapter; weights that are trained are float32: set "
            "training.precision=bfloat16 for matmuls in bfloat16"
        )
    if precision not in ("auto", dtype):
        raise ConfigError(
            f"training.precision={precision} does not match a base in model.dtype={dtype}; leave one of them "
            "out"
        )
    return decided(settings, precision=dtype)


def adapting(settings: RunSettings) -> Callable[[Network], None] | None:
    """What puts the adapter of a run into its network, or into an outline of it; None without one."""
    if settings.peft is None:
        return None
    method = METHODS.get(settings.peft.method)(settings.peft)
    seed = derive_seed(settings.training.seed, "adapter")
    return lambda module: method.apply(module, torch.Generator().manual_seed(seed))
