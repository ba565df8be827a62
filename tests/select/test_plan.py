"""Plans: what follows from the settings, the cost of generation, and a run's peak beside its plan."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import seedbed
from seedbed.base.errors import UsageError
from seedbed.base.hardware import Hardware, MatmulSpeed
from seedbed.base.runtime import Runtime
from seedbed.models.network import FAMILIES, build, family, parameter_count
from seedbed.nn.layout import Layout
from seedbed.objectives.causal import Causal
from seedbed.select import decoding, rehearsal
from seedbed.select.decoding import PROMPT_TOKENS, plan_generation
from seedbed.select.ledger import StorageLedger
from seedbed.select.plan import Plan, plan_training
from seedbed.training.settings import TrainingSettings

CONFIG = replace(family("gpt2").sized(32, 2), vocab_size=200)
HARDWARE = Hardware(
    cpu="a",
    instructions="avx2",
    num_cores=1,
    num_threads=1,
    memory_bytes=2**34,
    available_bytes=2**33,
    gpus=(),
    device="cpu",
    torch="2",
    matmuls=tuple(
        MatmulSpeed(precision=p, num_tokens=1, d_in=1, d_out=1, flops_per_second=1e9)
        for p in ("float32", "bfloat16")
    ),
    read_bytes=1e9,
    copy_bytes=1e9,
    call_seconds=1e-6,
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a moment only: no test here is about time."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    monkeypatch.setattr(decoding, "TIMING_SECONDS", 0.01)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    training = TrainingSettings(batch_tokens=128, context_tokens=32, num_steps=20)
    return plan_training(
        build(CONFIG, "meta"),
        training,
        hardware=HARDWARE,
        runtime=Runtime(),
        objective=Causal(),
        validation_tokens=500,
        data_bytes=77,
        folder=tmp_path,
    )


def test_parts_add_up_and_survive_the_file(plan: Plan) -> None:
    assert plan.peak_bytes == sum(plan.bytes.values())
    assert plan.bytes["weights"] == 4 * plan.parameters == 4 * parameter_count(CONFIG)
    assert plan.bytes["data"] == 77
    saved = json.loads(json.dumps(plan.to_dict() | {"measured": {"seconds": 1}}))
    again = Plan.from_dict(saved)
    assert again is not None and json.loads(json.dumps(again.to_dict())) == json.loads(
        json.dumps(plan.to_dict())
    )
    # A legacy plan, without frozen weights.
    legacy = {key: value for key, value in saved.items() if key not in ("trainable_parameters", "generation")}
    assert Plan.from_dict(legacy) == again
    del saved["step_seconds"]
    assert Plan.from_dict(saved) is None


def test_seconds_count_steps_evaluations_and_checkpoints(plan: Plan) -> None:
    plan = replace(plan, step_seconds=1.0, validation_seconds=10.0, checkpoint_seconds=100.0)
    training = TrainingSettings(
        batch_tokens=128,
        context_tokens=32,
        num_steps=25,
        evaluate_every_steps=10,
        checkpoint_every_steps=20,
    )
    planned = plan.for_settings(training)
    # Evaluations after 10, 20 and 25, each the best yet and its weights written; checkpoints after 20 and 25.
    share = plan.bytes["weights"] / (plan.bytes["weights"] + plan.bytes["optimizer"])
    assert planned.seconds == pytest.approx(25 + 3 * 10 + 100 * (2 + 3 * share))
    assert planned.num_steps == 25
    assert planned.flops == pytest.approx(plan.flops / 20 * 25)
    from_a_base = replace(plan, evaluates_first=True).for_settings(training)
    assert from_a_base.seconds == pytest.approx(25 + 4 * 10 + 100 * (2 + 4 * share))
    without = replace(plan, validation_seconds=0.0).for_settings(training)
    assert without.seconds == pytest.approx(25 + 100 * 2)


def test_a_frozen_network_writes_and_keeps_what_trains(plan: Plan, tmp_path: Path) -> None:
    network = build(CONFIG, "meta")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("blocks.1." in name)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    training = TrainingSettings(batch_tokens=128, context_tokens=32, num_steps=20)
    frozen = plan_training(
        network, training, hardware=HARDWARE, runtime=Runtime(), objective=Causal(), folder=tmp_path
    )
    assert (frozen.parameters, frozen.trainable_parameters) == (plan.parameters, trained)
    assert plan.trainable_parameters == plan.parameters
    assert frozen.bytes["weights"] == plan.bytes["weights"]
    assert frozen.bytes["optimizer"] == pytest.approx(8 * trained, abs=16)
    # Three checkpoints of weights that train and two moments of each; the best twice; two bundles of all.
    assert frozen.disk_bytes == pytest.approx(
        3 * 12 * trained + 2 * 4 * trained + 2 * frozen.bytes["weights"], abs=99
    )
    assert plan.disk_bytes == pytest.approx((3 * 12 + 4 * 4) * plan.parameters + 77, abs=99)
    assert frozen.flops < plan.flops


def test_generation_of_layers_of_several_kinds() -> None:
    """Each layer's keys have their own place, also if layers between two are left out."""
    network = build(replace(family("llama").sized(32, 12), vocab_size=200), "meta")
    network.decoder.blocks[9].requires_grad_(False)
    planned = plan_generation(network, context_tokens=100, runtime=Runtime())
    assert planned is not None and planned.bytes["decode_state"] == 4 * 2 * 12 * 100 * 32


@pytest.mark.parametrize(("context", "prompt"), [(4, None), (5, 1), (16, 12), (100, PROMPT_TOKENS)])
def test_a_prompt_is_within_a_short_context(context: int, prompt: int | None) -> None:
    config = replace(family("gpt2").sized(32, 1), vocab_size=100, max_positions=context)
    planned = plan_generation(build(config, "meta"), context_tokens=context, runtime=Runtime())
    assert (None if planned is None else planned.prompt_tokens) == prompt


def test_generation_needs_weights_and_keys() -> None:
    config = replace(family("gpt2").sized(32, 5), vocab_size=20_000)
    planned = plan_generation(build(config, "meta"), context_tokens=1000, runtime=Runtime())
    assert planned is not None
    assert planned.bytes["weights"] == 4 * parameter_count(config)
    assert planned.bytes["decode_state"] == 4 * 2 * 5 * 1000 * 32  # keys and values of every layer and token
    assert planned.bytes["logits"] == 4 * 20_000
    assert planned.peak_bytes == sum(planned.bytes.values())
    assert planned.prompt_seconds > 0 and planned.tokens_per_second > 0


@pytest.mark.parametrize("name", FAMILIES.names())
def test_generation_of_every_family_and_of_no_encoder(name: str) -> None:
    config = replace(family(name).sized(32, 4), vocab_size=200)
    planned = plan_generation(build(config, "meta"), context_tokens=100, runtime=Runtime())
    module = build(config)
    if config.shape == "encoder":
        assert planned is None
        return
    prompt, layout = torch.zeros(PROMPT_TOKENS, dtype=torch.int64), Layout.of([PROMPT_TOKENS])
    source = {"source": prompt, "source_layout": layout} if config.shape == "encoder-decoder" else {}
    with torch.no_grad(), StorageLedger("state") as ledger:
        ledger.record([*module.parameters(), prompt, layout.positions], "earlier")
        before = ledger.num_bytes
        state = module.start(1, 100, **source)
        state_bytes = ledger.num_bytes - before
    assert state.lengths == [0]
    assert planned is not None and planned.bytes["decode_state"] == state_bytes


def test_a_run_stays_near_its_planned_peak(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": f"document {i} " + "some words about seeds and beds " * 30}) for i in range(80)
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "seedbed", "pretrain", str(tmp_path / "corpus.jsonl"), "--json"]
    command += ["--out", str(tmp_path / "run"), "--family", "gpt2", "--steps", "4"]
    settings = {
        "model.d_model": 128,
        "model.num_layers": 4,
        "tokenizer.vocab_size": 300,
        "training.batch_tokens": 4096,
        "training.context_tokens": 128,
        "training.precision": "float32",
    }
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    planned, measured = result["plan"], result["measured"]
    tensors = sum(size for part, size in planned["bytes"].items() if part not in ("libraries", "allocator"))
    assert measured["peak_bytes"] > tensors
    assert planned["peak_bytes"] == pytest.approx(measured["peak_bytes"], rel=0.2)


def test_a_model_is_planned_with_its_frozen_parts() -> None:
    lm = seedbed.new(CONFIG)
    lm.module.requires_grad_(False)
    lm.module.decoder.blocks[1].requires_grad_(True)
    sizes = ["training.batch_tokens=128", "training.context_tokens=32"]
    planned = seedbed.plan(lm, overrides=sizes)
    assert planned.trainable_parameters == sum(p.numel() for p in lm.module.decoder.blocks[1].parameters())
    assert planned.bytes["optimizer"] < 9 * planned.trainable_parameters
    assert seedbed.plan(CONFIG, overrides=sizes).trainable_parameters == planned.parameters


@pytest.mark.parametrize("model", [None, 5, float("nan"), b"x", [], {}, len])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(UsageError, match=r"model=.* is not a model"):
        seedbed.plan(model)
