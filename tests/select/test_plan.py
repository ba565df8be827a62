"""Plans: what follows from the settings, what a generation takes, and a run's peak beside its plan."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seedbed.base.hardware import Hardware, Product
from seedbed.base.runtime import Runtime
from seedbed.models.network import family, parameter_count
from seedbed.objectives.causal import Causal
from seedbed.select import rehearsal
from seedbed.select.plan import Plan, plan_generation, plan_training
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
    products=tuple(
        Product(precision=p, num_tokens=1, d_in=1, d_out=1, flops_per_second=1e9)
        for p in ("float32", "bfloat16")
    ),
    read_bytes=1e9,
    copy_bytes=1e9,
    call_seconds=1e-6,
)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    training = TrainingSettings(batch_tokens=128, context_tokens=32, num_steps=20)
    return plan_training(
        CONFIG,
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
    del saved["step_seconds"]
    assert Plan.from_dict(saved) is None


def test_seconds_count_steps_evaluations_and_checkpoints(plan: Plan) -> None:
    plan = replace(plan, step_seconds=1.0, evaluation_seconds=10.0, checkpoint_seconds=100.0)
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
    without = replace(plan, evaluation_seconds=0.0).for_settings(training)
    assert without.seconds == pytest.approx(25 + 100 * 2)


def test_generation_holds_weights_and_keys() -> None:
    config = replace(family("gpt2").sized(32, 5), vocab_size=20_000)
    planned = plan_generation(
        config, hardware=HARDWARE, runtime=Runtime(), num_rows=3, prompt_tokens=8, max_new_tokens=24
    )
    assert planned.bytes["weights"] == 4 * parameter_count(config)
    # Keys and values of every layer, row and token; the storage may round the capacity up.
    keys = 4 * 2 * 5 * 3 * 32 * 32
    assert keys <= planned.bytes["decode_state"] <= 2.1 * keys
    assert planned.bytes["logits"] == 4 * 3 * 20_000
    assert planned.peak_bytes == sum(planned.bytes.values())
    assert planned.seconds == pytest.approx(planned.prompt_seconds + 24 * planned.step_seconds)


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
