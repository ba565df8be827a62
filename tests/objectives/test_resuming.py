"""Resumed equals uninterrupted bit for bit, for each objective with each of its families."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.moments import At, interrupt
from tests.objectives import small
from tests.objectives.test_contract import PAIRS

from seedbed.base.errors import StoppedEarly
from seedbed.base.runtime import Runtime
from seedbed.data.loader import Loader, MixturePart
from seedbed.data.objective import OBJECTIVES
from seedbed.training.evaluation import Validation
from seedbed.training.loop import train
from seedbed.training.run_folder import RunFolder
from seedbed.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    num_steps=8,
    batch_tokens=150,
    context_tokens=48,
    evaluate_every_steps=4,
    checkpoint_every_steps=3,
    keep_checkpoints=3,
    average_checkpoints=3,
    precision="float32",
)


def run_through(
    folder: Path, name: str, family: str, *, callbacks: Any = (), **changes: Any
) -> dict[str, torch.Tensor]:
    module = small.network(family, name, dropout=0.1)
    objective = small.objective(name, shape=module.config.shape)
    source = small.source(OBJECTIVES.get(name), 24)
    settings = replace(SETTINGS, **changes)
    with RunFolder(folder, keep_checkpoints=settings.keep_checkpoints) as run:
        run.settle(settings)
        train(
            module,
            Loader([MixturePart(source, objective)], batch_tokens=settings.batch_tokens, seed=0),
            objective=objective,
            settings=settings,
            run=run,
            runtime=Runtime(precision="float32"),
            validation=Validation(small.source(OBJECTIVES.get(name), 6), objective),
            callbacks=callbacks,
        )
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_resumed_is_uninterrupted_bit_for_bit(name: str, family: str, tmp_path: Path) -> None:
    whole = run_through(tmp_path / "whole", name, family)
    with pytest.raises(StoppedEarly, match="stopped after step 6 of 8"):
        run_through(tmp_path / "parts", name, family, callbacks=[At("step", 5, interrupt)])
    parts = run_through(tmp_path / "parts", name, family)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    files = [tmp_path / each / "metrics.jsonl" for each in ("whole", "parts")]
    losses = [file.read_text().splitlines()[-1] for file in files]
    assert '"averaged": 3' in losses[0]
    assert losses[0].split('"tokens"')[0] == losses[1].split('"tokens"')[0]
