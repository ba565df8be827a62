"""What does not fit, and what would: each setting and each lighter way is named where it is enough."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from tests.select.test_plan import HARDWARE

from seedbed.base.runtime import Runtime
from seedbed.models.adapter import METHODS
from seedbed.models.family import Network
from seedbed.models.network import build, family
from seedbed.objectives.causal import Causal
from seedbed.select import rehearsal
from seedbed.select.obstacle import Lighter
from seedbed.select.plan import Plan, plan_training
from seedbed.training.settings import TrainingSettings

CONFIG = replace(family("gpt2").sized(128, 6), vocab_size=300, max_positions=64)
# A micro-batch is one row already.
TRAINING = TrainingSettings(
    batch_tokens=1024, micro_batch_tokens=64, context_tokens=64, num_steps=20, precision="float32"
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    monkeypatch.setattr(rehearsal, "MOST_SECONDS", 0.01)


def adapted(dtype: str) -> Network:
    module = build(CONFIG, "meta").to(getattr(torch, dtype))
    method: Any = METHODS.get("lora")
    method(method.settings_class(rank=2)).apply(module, torch.Generator())
    return module.train()


LIGHTER = {
    "--peft lora": Lighter(outline=partial(adapted, "float32")),
    "--peft lora model.dtype=bfloat16": Lighter(outline=partial(adapted, "bfloat16"), precision="bfloat16"),
}


def planned(available: float, training: TrainingSettings = TRAINING, **more: Any) -> Plan:
    return plan_training(
        build(CONFIG, "meta"),
        training,
        hardware=replace(HARDWARE, available_bytes=int(available)),
        runtime=Runtime(),
        objective=Causal(),
        **more,
    )


@pytest.fixture(scope="module")
def needed() -> Callable[..., int]:
    """The planned bytes with other settings of [training], without what is not a tensor."""

    def find(**changes: Any) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
            return sum(planned(0, replace(TRAINING, **changes)).bytes.values())

    return find


def options(obstacle: str) -> list[str]:
    """What the sentence says would fit."""
    return re.findall(r"with ((?:(?!, ).)*?) (?:it needs )?about", obstacle)


def test_checkpointed_activations_are_named_where_they_are_enough() -> None:
    config = replace(family("gpt2").sized(64, 8), vocab_size=300, max_positions=1024)
    row = {"batch_tokens": 1024, "micro_batch_tokens": 1024, "context_tokens": 1024}

    def long(available: float, **more: Any) -> Plan:
        """The plan of a small network with long rows."""
        return plan_training(
            build(config, "meta"),
            replace(TRAINING, **row, **more),
            hardware=replace(HARDWARE, available_bytes=int(available)),
            runtime=Runtime(),
            objective=Causal(),
        )

    whole, less = (sum(long(0, checkpoint_activations=c).bytes.values()) for c in (False, True))
    assert less < 0.9 * whole
    assert options(long((whole + less) / 2).obstacle) == ["training.checkpoint_activations=true"]


def test_a_smaller_micro_batch_is_never_a_larger_one() -> None:
    training = replace(TRAINING, micro_batch_tokens=32)
    found = planned(1, training).obstacle
    assert "micro_batch_tokens" not in found and "still needs" in found


def test_an_adapter_is_named_where_all_weights_do_not_fit(needed: Callable[..., int]) -> None:
    weights = 4 * sum(p.numel() for p in build(CONFIG, "meta").parameters())
    assert needed(optimizer="adafactor", checkpoint_activations=True) > 1.9 * weights
    found = planned(1.8 * weights, lighter=LIGHTER).obstacle
    assert options(found)[0].startswith("--peft lora")
    assert not any(option.startswith("training.") for option in options(found))
    found = planned(0.8 * weights, lighter=LIGHTER).obstacle
    assert [option.partition(" training")[0] for option in options(found)] == [
        "--peft lora model.dtype=bfloat16"
    ]
    found = planned(0.1 * weights, lighter=LIGHTER).obstacle
    assert "with --peft lora model.dtype=bfloat16 training." in found and "still needs" in found
    assert "lora" not in planned(1.8 * weights).obstacle


def test_the_disk_of_an_adapter_has_what_trains_alone() -> None:
    module = adapted("float32")
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    plan = plan_training(
        module, TRAINING, hardware=HARDWARE, runtime=Runtime(), objective=Causal(), saves_adapter=True
    )
    # Three checkpoints of weights and two moments; the best weights and the adapter, each twice.
    assert plan.disk_bytes == pytest.approx((3 * 12 + 4 * 4) * trained, rel=0.001)
    assert not plan.obstacle
