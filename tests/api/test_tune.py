"""`seedbed.train`: a model by its name, its folder or itself, a preset from scratch; wrong arguments."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.task_models import decoder
from tests.tunings import PAIRS, SETTINGS, Bench, written

import seedbed
from seedbed.base.errors import SeedbedError
from seedbed.hub.bundle import open_bundle
from seedbed.select import rehearsal

LAYOUT = torch.arange(12)[None]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
        yield Bench(tmp_path_factory.mktemp("bench"))


def train(bench: Bench, model: Any, data: Any = None, **options: Any) -> Any:
    data = bench.data("conversation") if data is None else data
    how: dict[str, Any] = {"steps": 4, "overrides": SETTINGS} | options
    return seedbed.train(model, data, **how)


def adapted(run: Any) -> list[torch.Tensor]:
    module = seedbed.load(run.model).module
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def test_a_name_a_path_and_a_model_are_tuned_the_same(bench: Bench) -> None:
    base = bench.base("conversation")
    runs = [
        train(bench, model, out=bench.folder / name)
        for name, model in {"name": str(base), "path": base, "model": seedbed.load(base)}.items()
    ]
    assert all(run.model.name == "adapter" and run.metrics["step"] == 4 for run in runs)
    first, *others = [adapted(run) for run in runs]
    assert first and all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
    assert (runs[2].run / "base" / "model.safetensors").exists()  # the model itself is saved with its run
    again = train(bench, seedbed.load(base), out=bench.folder / "model")
    assert again.metrics == runs[2].metrics
    assert "steps" in repr(runs[0]) and runs[0].summary()["model"] == str(runs[0].model)


def test_the_model_that_was_given_is_unchanged(bench: Bench) -> None:
    lm = seedbed.load(bench.base("conversation"))
    before = lm.logits(LAYOUT)
    train(bench, lm, out=bench.folder / "unchanged")
    assert torch.equal(lm.logits(LAYOUT), before) and lm.adapter is None


def test_all_weights_are_trained_without_an_adapter(bench: Bench) -> None:
    run = train(bench, bench.base("conversation"), out=bench.folder / "full", peft="none")
    assert run.model.name == "model"
    found, base = (open_bundle(folder)[0].state_dict() for folder in (run.model, bench.base("conversation")))
    assert all(not torch.equal(found[name], base[name]) for name in found if name.endswith("weight"))
    assert seedbed.load(run.model).chat([{"role": "user", "content": "a"}], max_new_tokens=2).text is not None


@pytest.mark.parametrize("objective", ["conversation", "completion", "classification", "tagging"])
def test_merged_is_unmerged(objective: str, bench: Bench) -> None:
    run = bench.tune(objective, f"merged-{objective}", "training.learning_rate=0.01")
    lm = seedbed.load(run.model)
    more = {} if objective != "completion" else {"decoder_input_ids": LAYOUT[:, :5]}
    with torch.no_grad():
        expected = lm.logits(LAYOUT, **more)
        lm.merge()
        found = lm.logits(LAYOUT, **more)
        plain = None if lm.config.head.labels else seedbed.load(bench.base(objective)).logits(LAYOUT, **more)
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item())
    assert plain is None or (plain - expected).abs().max() > 1e-2
    lm.save(bench.folder / f"whole-{objective}")
    again = seedbed.load(bench.folder / f"whole-{objective}")
    assert again.adapter is None and torch.equal(again.logits(LAYOUT, **more), found)


def test_a_preset_or_a_family_is_trained_from_scratch(bench: Bench) -> None:
    data = written(bench.folder / "texts.jsonl", [{"text": f"a garden {n} grows"} for n in range(60)])
    small = [*SETTINGS, "tokenizer.vocab_size=300", "model.d_model=16", "model.num_layers=1"]
    run = train(bench, "gpt2", data, out=bench.folder / "scratch", overrides=small)
    assert run.model.name == "model" and seedbed.load(run.model).config.family == "gpt2"
    settings = (run.run / "settings.toml").read_text()
    assert "base" not in [line.split(" = ")[0] for line in settings.splitlines()]
    with pytest.raises(SeedbedError, match=r"peft='lora' adapts a model that exists, and gpt2 is trained"):
        train(bench, "gpt2", data, out=bench.folder / "no", peft="lora")
    with pytest.raises(SeedbedError, match="124x"):
        train(bench, "gpt2:124x", data, out=bench.folder / "no")
    assert not (bench.folder / "no").exists()


def test_without_a_folder_each_run_has_a_new_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "here").mkdir()
    monkeypatch.chdir(bench.folder / "here")
    runs = [train(bench, bench.base("conversation"), steps=2) for _ in range(2)]
    assert [run.run for run in runs] == [Path("runs/1"), Path("runs/2")]
    assert json.loads(Path("runs/2/metrics.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    ("model", "data", "options", "said"),
    [
        (3, None, {}, "model=3 is not a model; give a name, a folder or a LanguageModel"),
        (None, None, {}, "model=None is not a model"),
        ("no such model", None, {}, "no such model"),
        (decoder(400), None, {"peft": "lorra"}, "lorra"),
        (decoder(400), None, {"steps": 0}, "num_steps=0"),
        (decoder(400), None, {"steps": 3, "budget_seconds": 3.0}, "both say how long"),
        (decoder(400), None, {"overrides": "a"}, "is not a list of texts"),
        (decoder(400), None, {"task": "sumarize"}, "sumarize"),
        (decoder(400), "nowhere.jsonl", {}, r"nowhere\.jsonl does not exist"),
        (decoder(400), None, {"out": 3}, "out=3 is not a path"),
    ],
)
def test_wrong_arguments_are_one_line_and_nothing_is_left(
    model: Any, data: Any, options: Any, said: str, bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(SeedbedError, match=said) as caught:
        train(bench, model, data, **{"out": tmp_path / "run"} | options)
    assert "\n" not in str(caught.value) and not (tmp_path / "run" / "settings.toml").exists()


def test_the_records_are_unchanged(bench: Bench) -> None:
    assert [json.loads(line) for line in bench.data("conversation").read_text().splitlines()] == PAIRS
