"""A run from a base: looked up once, pinned to a commit, named as the parent."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.moments import At, kill
from torch import nn

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import CheckpointError, ConfigError
from seedbed.hub.base import Base
from seedbed.models.family import Network
from seedbed.models.network import family
from seedbed.nn.linear import linear_modules
from seedbed.nn.linear import replace as put_in
from seedbed.runs.start import Start, run_settings
from seedbed.runs.train import Run, train
from seedbed.select import rehearsal
from seedbed.text.training import train_tokenizer

HUB_SERVER = Path(__file__).parents[1] / "hub" / "hub_server.py"
SETTINGS = [
    *("training.batch_tokens=64", "training.context_tokens=16", "training.precision=float32"),
    *("training.checkpoint_every_steps=5", "training.evaluate_every_steps=5"),
]
CLIENT = """
import json, sys
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import SeedbedError
from seedbed.select import rehearsal
rehearsal.TIMING_SECONDS = 0.01
arguments = json.loads(sys.argv[1])
try:
    result = pretrain(arguments.pop("data"), **arguments).metrics["step"]
except SeedbedError as error:
    result = f"{type(error).__name__}: {error}"
print(json.dumps(result))
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    texts = [{"text": f"document {i} of a few words"} for i in range(80)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, texts)))
    return tmp_path / "corpus.jsonl"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small GPT-2 with a tokenizer, in a folder."""
    tokenizer = train_tokenizer(["document 12 of a few words"] * 9, vocab_size=280)
    config = replace(family("gpt2").sized(32, 2), vocab_size=280, max_positions=32)
    seedbed.new(config, tokenizer=tokenizer, seed=3).save(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def hub() -> Iterator[Any]:
    """The hub of tests/hub, on this machine."""
    spec = importlib.util.spec_from_file_location("hub_server", HUB_SERVER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.serve() as serving:
        serving.commit_of = module.commit_of
        yield serving


def from_hub(hub: Any, folder: Path, data: Path, **options: Any) -> Any:
    """What a run of a process of its own gives: its last step, or its error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    arguments = {"data": str(data), "out": str(folder / "run"), **options}
    command = [sys.executable, "-c", CLIENT, json.dumps(arguments)]
    done = subprocess.run(command, env=kept | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def revisions(hub: Any) -> list[str]:
    """The requests to the hub for the revision of a name."""
    paths = [request.path.partition("?")[0] for request in hub.requests]
    return [path for path in paths if path in ("/api/models/org/base", "/api/models/org/base/revision/main")]


def test_a_base_on_the_hub_is_looked_up_once_and_pinned(
    hub: Any, base: Path, corpus: Path, tmp_path: Path
) -> None:
    files = {file.name: file.read_bytes() for file in base.iterdir()}
    hub.repos["org/base"] = {"main": files}
    options: dict[str, Any] = {"overrides": ["model.base=org/base", *SETTINGS]}
    assert from_hub(hub, tmp_path, corpus, steps=10, **options) == 10
    assert len(revisions(hub)) == 1
    commit = hub.commit_of("main")
    settings = (tmp_path / "run" / "settings.toml").read_text()
    assert f'base = "org/base@{commit}"' in settings and 'family = "gpt2"' in settings
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "base_model: org/base\n" in card and f"from the weights of `org/base@{commit}`" in card
    # The run is resumed with its own commit, whatever the name has come to mean.
    hub.repos["org/base"] = {"later": files, "main": files | {"config.json": b"{}"}, commit: files}
    hub.requests.clear()
    assert from_hub(hub, tmp_path, corpus, steps=10, **options) == 10
    assert not revisions(hub)
    other = from_hub(hub, tmp_path, corpus, steps=10, overrides=["model.base=org/base@later", *SETTINGS])
    assert f"model.base was 'org/base@{commit}', now 'org/base@{hub.commit_of('later')}'" in other


def test_a_run_from_scratch_says_so_and_one_from_a_base_names_its_parent(
    base: Path, corpus: Path, tmp_path: Path
) -> None:
    scratch = pretrain(
        str(corpus),
        out=tmp_path / "scratch",
        family="gpt2",
        steps=10,
        overrides=["model.d_model=16", "model.num_layers=1", "tokenizer.kind=bytes", *SETTINGS],
    )
    assert "Pre-trained from scratch with the objective `causal`" in (scratch.model / "README.md").read_text()
    tuned = pretrain(
        str(corpus), out=tmp_path / "tuned", steps=10, overrides=[f"model.base={base}", *SETTINGS]
    )
    card = (tuned.model / "README.md").read_text()
    assert f"Trained with the objective `causal` from the weights of `{base}`" in card
    assert Base.open(base).fingerprint[:16] in card
    assert "from scratch" not in card and "no instructions" not in card


def freeze_all_but_the_last_layer(module: Network) -> None:
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(".blocks.1." in name)


class Adapted(nn.Module):
    """A projection with a low-rank change of its own, as an adapter has it."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.parts, self.in_features = inner, inner.parts, inner.in_features
        weight, _ = inner.dense()
        self.change = nn.Parameter(torch.full_like(weight, 0.01))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The projection's and the change's."""
        y: torch.Tensor = self.inner(x) + x @ self.change.T
        return y

    def dense(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Both as one weight."""
        weight, bias = self.inner.dense()
        return weight + self.change, bias


def adapt(module: Network) -> None:
    module.requires_grad_(False)
    for path, linear in list(linear_modules(module)):
        put_in(module, path, Adapted(linear).to(module.device))


def test_a_run_with_wrappers_ends_in_a_bundle_of_its_dense_weights(
    base: Path, corpus: Path, tmp_path: Path
) -> None:
    settings, start = run_settings(str(corpus), steps=6, overrides=[f"model.base={base}", *SETTINGS])
    run = train(settings, tmp_path / "run", start=Start(base=start.base, modify=adapt))
    before, after = (Base.open(path).network().state_dict() for path in (base, run.model))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in changed} == {"qkv", "out", "inner", "down"}


def frozen_run(base: Path, corpus: Path, out: Path, callbacks: Any = ()) -> Run:
    settings, start = run_settings(
        str(corpus), out=out, steps=12, overrides=[f"model.base={base}", *SETTINGS]
    )
    frozen = Start(base=start.base, modify=freeze_all_but_the_last_layer)
    return train(settings, out, start=frozen, callbacks=callbacks)


def test_a_frozen_base_is_trained_in_its_last_layer_and_resumes(
    base: Path, corpus: Path, tmp_path: Path
) -> None:
    whole = frozen_run(base, corpus, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        frozen_run(base, corpus, tmp_path / "run", [At("step", 8, kill)])
    again = frozen_run(base, corpus, tmp_path / "run")
    assert again.metrics == whole.metrics
    before = Base.open(base).network().state_dict()
    ours, theirs = (Base.open(run.model).network().state_dict() for run in (again, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    changed = {name for name in before if not torch.equal(before[name], ours[name])}
    assert changed and all(".blocks.1." in name for name in changed)


def test_a_family_that_is_not_the_base_s_is_refused(base: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"family=lstm contradicts the base .*, which is a gpt2; leave"):
        pretrain(str(corpus), out=tmp_path / "run", family="lstm", overrides=[f"model.base={base}"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["weights", "generation settings"])
def test_another_base_in_its_place_is_refused(what: str, base: Path, corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 12, "overrides": [f"model.base={base}", *SETTINGS]}
    with pytest.raises(KeyboardInterrupt):
        pretrain(str(corpus), out=tmp_path / "run", callbacks=[At("step", 8, kill)], **options)
    if what == "weights":
        lm = seedbed.load(base)
        with torch.no_grad():
            lm.module.decoder.blocks[0].attn.out.weight[0, 0] += 1
        lm.save(base, force=True)
    else:
        values = json.loads((base / "generation_config.json").read_text())
        (base / "generation_config.json").write_text(json.dumps(values | {"eos_token_id": 7}))
    with pytest.raises(CheckpointError, match=r"data\.base was '[0-9a-f]{64}', now"):
        pretrain(str(corpus), out=tmp_path / "run", **options)


def test_a_run_resumes_under_another_spelling_of_its_paths(
    base: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pretrain(
            str(corpus), out="run", callbacks=[At("step", 8, kill)], base="base", steps=12, overrides=SETTINGS
        )
    run = pretrain("./corpus.jsonl", out="run", base=str(base), steps=12, overrides=SETTINGS)
    assert run.metrics["step"] == 12
    changed = [*SETTINGS, "training.warmup_steps=1"]
    with pytest.raises(CheckpointError, match=r"data: training\.warmup_steps was not set, now 1; undo"):
        pretrain("corpus.jsonl", out="run", base=str(base), steps=12, overrides=changed)


def test_a_run_inside_its_data_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out .*run is in the data folder .*; choose a folder outside"):
        pretrain(str(corpus.parent), out=tmp_path / "a" / ".." / "run")
    assert not (tmp_path / "run").exists()


def test_a_base_is_tuned_with_few_records_per_step(base: Path, corpus: Path, tmp_path: Path) -> None:
    """3,800 tokens of mail are half a step of 8,192."""
    lines: list[str] = []
    options: dict[str, Any] = {"steps": 1, "overrides": ["training.precision=float32"]}
    tuned = pretrain(str(corpus), out=tmp_path / "tuned", base=str(base), notify=lines.append, **options)
    saved = tomllib.loads((tuned.run / "settings.toml").read_text())["training"]
    assert (saved["batch_tokens"], saved["context_tokens"]) == (1024, 32)
    (line,) = [line for line in lines if "more than a tenth" in line]
    assert line.startswith("warning: a step of 1,024 tokens is") and line.endswith(
        "set training.batch_tokens=64"
    )

    def sizes(*overrides: str, **more: Any) -> tuple[int, int]:
        training = run_settings(str(corpus), overrides=overrides, **more)[0].training
        return training.batch_tokens, training.context_tokens

    assert sizes() == (8192, 256) and sizes("training.batch_tokens=100") == (100, 100)
    assert sizes("training.batch_tokens=20", base=str(base)) == (20, 20)
    assert sizes("training.batch_tokens=64", base=str(base)) == (64, 32)
    with pytest.raises(ConfigError, match="context_tokens=30 is more than"):
        sizes("training.batch_tokens=20", "training.context_tokens=30")
