"""What is shown of a run is what its training loop gets, example by example."""

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
    wanted: dict[str, Any] = {"family": family, "overrides": SMALL + overrides, "steps": 4}
    shown = show(str(tmp_path / "notes"), out=tmp_path / "run", num=8, **wanted)
    seen: list[Example] = []
    deal = loop.micro_batches

    def note(examples: Sequence[Example], **how: Any) -> Any:
        seen.extend(examples)
        return deal(examples, **how)

    monkeypatch.setattr(loop, "micro_batches", note)
    pretrain(str(tmp_path / "notes"), out=tmp_path / "run", **wanted)
    assert len(seen) >= 8
    for told, example in zip(shown, seen[:8], strict=True):
        assert (told.num_tokens, told.num_targets) == (example.num_tokens, len(example.targets))
        if family == "bert":
            assert [piece.id for piece in told.reads] == example.input_ids.tolist()
            assert sum(piece.answer is not None for piece in told.reads) == len(example.targets)
        else:
            source = [] if example.source_ids is None else example.source_ids.tolist()
            assert [piece.id for piece in told.reads] == source
            assert [p.id for p in told.writes if p.role == "target"] == example.targets.tolist()


def test_no_examples_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--show 0"):
        show("builtin:prose", out=tmp_path / "run", num=0)
    assert not (tmp_path / "run").exists()
