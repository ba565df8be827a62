"""The examples that `show` returns are those of the training loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seedbed.api.pretrain import pretrain, show
from seedbed.base.errors import UsageError
from seedbed.data.batch import Example
from seedbed.training import loop

SMALL = ["model.d_model=16", "model.num_layers=1", "training.context_tokens=32", "training.batch_tokens=96"]
SMALL += ["tokenizer.vocab_size=500", "training.precision=float32", "training.seed=7"]


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("gpt2", []),
        ("bert", []),
        ("t5", ["objective.mixture=ul2"]),
        ("bart", []),
    ],
)
def test_what_is_shown_is_what_is_trained_on(
    family: str, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"Note {n}: the seed number {n} grows {n % 7} leaves. It sleeps in winter." for n in range(60)]
    for n, text in enumerate(texts):
        (tmp_path / "notes").mkdir(exist_ok=True)
        (tmp_path / "notes" / f"{n}.txt").write_text(text)
    options: dict[str, Any] = {"family": family, "overrides": SMALL + overrides, "steps": 4}
    shown = show(str(tmp_path / "notes"), out=tmp_path / "run", num=8, **options)
    seen: list[Example] = []
    original = loop.micro_batches

    def note(examples: Sequence[Example], **how: Any) -> Any:
        seen.extend(examples)
        return original(examples, **how)

    monkeypatch.setattr(loop, "micro_batches", note)
    pretrain(str(tmp_path / "notes"), out=tmp_path / "run", **options)
    assert len(seen) >= 8
    for one, example in zip(shown, seen[:8], strict=True):
        assert (one.num_tokens, one.num_targets) == (example.num_tokens, len(example.targets))
        if family == "bert":
            assert [token.id for token in one.reads] == example.input_ids.tolist()
            assert sum(token.answer is not None for token in one.reads) == len(example.targets)
        else:
            source = [] if example.source_ids is None else example.source_ids.tolist()
            assert [token.id for token in one.reads] == source
            assert [t.id for t in one.writes if t.role == "target"] == example.targets.tolist()


def test_no_examples_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--show 0"):
        show("builtin:prose", out=tmp_path / "run", num=0)
    assert not (tmp_path / "run").exists()
