"""Tunings: resumed, their length, their defaults, a base in bfloat16, what is refused before they begin."""

import json
from typing import Any

import pytest
import torch
from tests.moments import At, kill
from tests.task_models import CHATML
from tests.tunings import PAIRS, RECORDS, SETTINGS, Bench, weights_of, written

import seedbed
from seedbed.api.pretrain import resume, show
from seedbed.base.errors import CheckpointError, ConfigError, SeedbedError
from seedbed.base.settings import read_toml
from seedbed.hub.tensor_files import SafetensorsFile
from seedbed.runs.start import load_run
from seedbed.runs.tuning import CPU_MICRO_BATCH_TOKENS, micro_batched
from seedbed.select import rehearsal


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
        yield Bench(tmp_path_factory.mktemp("bench"))


def saved(bench: Bench, out: str) -> Any:
    return read_toml(bench.folder / out / "settings.toml")


@pytest.mark.parametrize("objective", RECORDS)
def test_a_resumed_tuning_is_the_one_never_stopped(objective: str, bench: Bench) -> None:
    own = ("peft.dropout=0.1",)
    whole = bench.tune(objective, f"{objective}-whole", *own)
    with pytest.raises(KeyboardInterrupt):
        bench.tune(objective, f"{objective}-parts", *own, callbacks=[At("step", 5, kill)])
    parts = bench.tune(objective, f"{objective}-parts", *own)
    assert whole.model.name == "adapter" and whole.metrics["step"] == 8
    assert weights_of(parts) == weights_of(whole) and parts.metrics == whole.metrics
    files = [(run.model / "adapter_config.json").read_bytes() for run in (whole, parts)]
    assert files[0] == files[1]
    assert whole.metrics["loss"]["value"] < whole.metrics["before"]["loss"]["value"]


def test_what_the_machine_decided_is_kept(bench: Bench) -> None:
    """The micro-batches of a CPU, which no setting names."""
    own = "training.micro_batch_tokens=0"
    with pytest.raises(KeyboardInterrupt):
        bench.tune("conversation", "decided", own, callbacks=[At("step", 3, kill)])
    assert saved(bench, "decided")["training"]["micro_batch_tokens"] == CPU_MICRO_BATCH_TOKENS
    for again in (bench.tune("conversation", "decided", own), resume(bench.folder / "decided")):
        assert again.metrics["step"] == 8


def test_a_longer_tuning_resumes_the_same(bench: Bench) -> None:
    for out in ("longer-whole", "longer-parts"):
        bench.tune("conversation", out)
    whole = resume(bench.folder / "longer-whole", steps=12)
    with pytest.raises(KeyboardInterrupt):
        resume(bench.folder / "longer-parts", steps=12, callbacks=[At("step", 10, kill)])
    parts = resume(bench.folder / "longer-parts")
    assert whole.metrics["step"] == parts.metrics["step"] == 12
    assert weights_of(parts) == weights_of(whole)
    again = bench.tune("conversation", "longer-whole")  # the command that began it
    assert again.metrics["step"] == 12


def test_a_tuning_without_steps_reads_the_records_three_times(bench: Bench) -> None:
    run = bench.tune("conversation", "passes", steps=None)
    chosen = saved(bench, "passes")["training"]
    assert chosen["num_passes"] == 3.0 and chosen["num_steps"] == run.metrics["step"]
    steps = [json.loads(line) for line in (run.run / "metrics.jsonl").read_text().splitlines()]
    tokens = [line["tokens"] for line in steps if line["kind"] == "step"]
    of_a_pass = run.data["train_tokens"] - run.data["train_documents"]  # a row lacks its last token
    assert tokens[-2] < 3 * of_a_pass <= tokens[-1] + 160
    with pytest.raises(KeyboardInterrupt):
        bench.tune("conversation", "passes-parts", steps=None, callbacks=[At("step", 5, kill)])
    parts = resume(bench.folder / "passes-parts")
    assert weights_of(parts) == weights_of(run) and parts.metrics["step"] == run.metrics["step"]


def test_steps_replace_the_passes_and_a_budget_ends_with_them(bench: Bench) -> None:
    run = bench.tune("conversation", "steps", steps=5)
    assert run.metrics["step"] == 5 and "num_passes" not in saved(bench, "steps")["training"]
    one = bench.tune("conversation", "one", "training.num_passes=1", steps=None)
    both = bench.tune("conversation", "both", "training.num_passes=1", steps=4)
    long = bench.tune("conversation", "budget", "training.num_passes=1", steps=None, budget_seconds=3600.0)
    assert both.metrics["step"] == 4 < one.metrics["step"] == long.metrics["step"]
    assert saved(bench, "budget")["training"]["budget_seconds"] == 3600.0


def test_the_defaults_of_a_tuning(bench: Bench) -> None:
    base, data = bench.base("conversation"), bench.data("conversation")
    tables = {"model": {"base": str(base)}, "data": {"train": str(data)}}
    lora, _ = load_run(tables, {"peft": {"method": "lora"}})
    full, start = load_run(tables)
    assert full.peft is None and lora.peft.method == "lora" and start.modify is None
    for settings, rate in ((lora, 5e-4), (full, 1e-4)):
        training = settings.training
        assert (training.batch_tokens, training.context_tokens) == (1024, 400)
        for device, expected in (("cpu", CPU_MICRO_BATCH_TOKENS), ("cuda", 0)):
            chosen = micro_batched(settings, torch.device(device)).training
            assert chosen.micro_batch_tokens == expected
        assert training.num_passes == 3.0 and training.evaluate_every_steps == 20
        assert training.learning_rate == pytest.approx(rate) and settings.data.validation_fraction == 0.1


def test_a_base_in_bfloat16_learns_beside_a_float32_adapter(bench: Bench) -> None:
    own = ("model.dtype=bfloat16", "training.precision=auto")
    whole = bench.tune("conversation", "bfloat16", *own)
    assert saved(bench, "bfloat16")["training"]["precision"] == "bfloat16"
    file = SafetensorsFile(whole.model / "adapter_model.safetensors")
    assert {file.read(name).dtype for name in file.headers} == {torch.float32}
    assert whole.metrics["loss"]["value"] < whole.metrics["before"]["loss"]["value"]
    with pytest.raises(KeyboardInterrupt):
        bench.tune("conversation", "bfloat16-parts", *own, callbacks=[At("step", 5, kill)])
    assert weights_of(resume(bench.folder / "bfloat16-parts")) == weights_of(whole)
    lm = seedbed.load(whole.model, dtype="bfloat16")
    dtypes = {parameter.dtype for parameter in lm.module.parameters()}
    assert dtypes == {torch.float32, torch.bfloat16}
    with pytest.raises(CheckpointError, match=r"model\.dtype"):
        bench.tune("conversation", "bfloat16")


@pytest.mark.parametrize(
    ("own", "peft", "said"),
    [
        (["model.dtype=bfloat16"], "none", r"model\.dtype=bfloat16 is for a base beside an adapter; weights"),
        (
            ["model.dtype=bfloat16", "training.precision=float32"],
            "lora",
            r"training\.precision=float32 does not match a base in model\.dtype=bfloat16; leave one",
        ),
        (["model.dtype=int8"], "lora", r"model\.dtype='int8'"),
        (["peft.rank=8"], "none", r"peft\.rank has no effect with peft\.method=none"),
        (
            ["peft.targets=query"],
            "lora",
            r"peft\.targets='query' matches no projection of this gpt2",
        ),
        (["peft.rank=65"], "lora", r"peft\.rank=65 is larger than the matrix of .*; choose 1 to "),
        ([], "lorra", r"'lorra'.*lora"),
    ],
)
def test_bad_settings_are_one_line_and_nothing_is_written(
    own: list[str], peft: str, said: str, bench: Bench
) -> None:
    with pytest.raises(SeedbedError, match=said) as caught:
        bench.tune("conversation", "refused", *own, peft=peft)
    assert "\n" not in str(caught.value)
    assert not (bench.folder / "refused").exists()


def test_an_adapter_is_not_a_base(bench: Bench) -> None:
    run = bench.tune("conversation", "adapted", steps=2)
    for base in (run.run, run.model):
        with pytest.raises(ConfigError, match=r"is an adapter.*merge it first") as caught:
            load_run({"model": {"base": str(base)}, "data": {"train": str(bench.data("conversation"))}})
        assert "\n" not in str(caught.value)
    lm = seedbed.load(run.model)
    lm.merge()
    lm.save(bench.folder / "merged")
    again = bench.folder / "merged"
    data = written(bench.folder / "more.jsonl", PAIRS)
    assert load_run({"model": {"base": str(again)}, "data": {"train": str(data)}})[1].base is not None


def test_another_template_before_the_first_step_makes_another_tokenizer(bench: Bench) -> None:
    base = seedbed.load(bench.base("conversation"))
    folder = bench.folder / "templates"
    base.save(folder / "base")
    data, shown = bench.data("conversation"), []
    for end in ("<|im_end|>", "<|im_end|><|im_end|>"):
        template = CHATML.replace("<|im_end|>", end)
        (folder / "base" / "chat_template.jinja").write_text(template)
        how: dict[str, Any] = {"base": str(folder / "base"), "peft": "lora", "overrides": SETTINGS}
        (example,) = show(str(data), out=folder / "run", num=1, **how)
        shown.append([token.token for token in example.writes].count("<|im_end|>"))
    assert shown == [2, 4]
