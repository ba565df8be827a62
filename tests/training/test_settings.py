"""Training settings that cannot be are refused in one line that says what is allowed."""

from typing import Any

import pytest

from seedbed.base.errors import ConfigError
from seedbed.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, r"training\.num_steps=0 cannot be; allowed: 1 or more"),
        ({"learning_rate": 0.0}, r"training\.learning_rate=0\.0 cannot be; allowed: above 0"),
        ({"learning_rate": float("nan")}, r"training\.learning_rate=nan"),
        ({"clip_norm": -1.0}, r"training\.clip_norm=-1\.0 cannot be; allowed: 0 or more"),
        ({"beta2": 1.0}, r"training\.beta2=1\.0 cannot be"),
        ({"cooldown_fraction": 1.5}, r"training\.cooldown_fraction=1\.5 cannot be; allowed: 0 to 1"),
        ({"schedule": "linear"}, r"allowed: constant, cosine, inverse_sqrt, wsd"),
        ({"precision": "float16"}, r"allowed: auto, float32, bfloat16"),
        ({"batch_tokens": 100}, r"context_tokens=256 does not fit in training\.batch_tokens=100; raise"),
        ({"num_steps": 50, "warmup_steps": 50}, r"leaves no step of num_steps=50 .*choose 0 to 49"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingSettings(**changes)


def test_the_warm_up_is_a_tenth_of_the_steps_up_to_100() -> None:
    assert TrainingSettings(num_steps=40).num_warmup_steps == 4
    assert TrainingSettings(num_steps=5000).num_warmup_steps == 100
    assert TrainingSettings(num_steps=5000, warmup_steps=0).num_warmup_steps == 0
