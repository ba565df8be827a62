"""Which objective goes with which family is known, and a wrong pair is refused before anything is read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import ConfigError, UsageError
from seedbed.hub.base import Base
from seedbed.models.network import FAMILIES, family
from seedbed.runs.start import Start, load_run, run_settings
from seedbed.text.special_form import MARIAN
from seedbed.text.training import train_tokenizer

OWN = {
    "bert": "masked",
    "roberta": "masked",
    "t5": "span_corruption",
    "bart": "denoising",
    "transformer": "completion",
}


@pytest.mark.parametrize("name", FAMILIES.names())
def test_every_family_has_an_objective_of_its_own(name: str) -> None:
    own = OWN.get(name, "causal")
    assert family(name).objective == own
    settings, _ = load_run({"data": {"train": "builtin:prose"}, "model": {"family": name}})
    assert settings.objective.name == own


def test_t5_learns_with_its_own_optimizer_where_none_is_named(tmp_path: Path) -> None:
    seedbed.new(replace(family("t5").sized(32, 1), vocab_size=40)).save(tmp_path)
    rates = ((0.01, {"family": "t5"}), (0.001, {"base": str(tmp_path)}))  # of the paper, both
    for rate, model in rates:
        training = load_run({"data": {"train": "builtin:prose"}, "model": model})[0].training
        assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adafactor", rate, 0.0)
    layers = {"data": {"train": "builtin:prose"}, "model": {"family": "t5"}}
    slower = load_run(layers, overrides=["training.learning_rate=0.001"])[0].training
    assert (slower.optimizer, slower.learning_rate) == ("adafactor", 0.001)
    named = load_run(layers, overrides=["training.optimizer=adamw"])[0].training
    assert (named.optimizer, named.learning_rate, named.weight_decay) == ("adamw", 1e-3, 0.1)
    assert run_settings("builtin:prose", family="t5", recipe="fast")[0].training.optimizer == "muon"
    assert run_settings("builtin:prose", family="bart")[0].training.optimizer == "adamw"


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A small GPT-2 with a tokenizer."""
    config = replace(family("gpt2").sized(16, 1), vocab_size=280, max_positions=32)
    seedbed.new(config, tokenizer=train_tokenizer(["a text"], vocab_size=280)).save(tmp_path / "base")
    return str(tmp_path / "base")


@pytest.mark.parametrize(
    ("options", "rate", "of_matrices"),
    [
        ({}, 1e-4, 2e-3),
        ({"recipe": "classic"}, 1e-4, 2e-3),
        ({"recipe": "fast"}, 1e-4, 2e-3),  # with muon
        ({"overrides": ["training.optimizer=muon"]}, 1e-4, 2e-3),
        ({"overrides": ["training.learning_rate=1e-3"]}, 1e-3, 2e-3),
        ({"recipe": "fast", "overrides": ["training.matrix_learning_rate=0.01"]}, 1e-4, 0.01),
    ],
)
def test_a_base_is_tuned_at_a_rate_for_tuning(
    options: dict[str, Any], rate: float, of_matrices: float, base: str
) -> None:
    training = run_settings("builtin:prose", base=base, **options)[0].training
    assert training.learning_rate == pytest.approx(rate, rel=1e-9)
    assert training.matrix_learning_rate == pytest.approx(of_matrices, rel=1e-9)
    without = run_settings("builtin:prose", family="gpt2", **options)[0].training
    assert options.get("overrides") or without.learning_rate >= 1e-3


def test_a_base_is_named_once(base: str, tmp_path: Path) -> None:
    settings, start = run_settings("builtin:prose", base=base, family="gpt2")
    assert start.base is not None and settings.model.base == base and settings.model.family == "gpt2"
    same = [f"model.base={base}"]
    assert run_settings("builtin:prose", base=base, overrides=same)[0] == settings
    with pytest.raises(ConfigError, match=r"--base .*base contradicts --set model.base=x; keep one"):
        run_settings("builtin:prose", base=base, overrides=["model.base=x"])
    with pytest.raises(ConfigError, match=r"model.family=bert contradicts the base .*, which is a gpt2"):
        run_settings("builtin:prose", base=base, family="bert")


@pytest.mark.parametrize(
    ("objective", "name", "words"),
    [
        (
            "causal",
            "bert",
            "a decoder, but bert is an encoder; give --objective masked, its own, or",
        ),
        (
            "causal",
            "t5",
            "a decoder, but t5 is an encoder-decoder; give --objective span_corruption, its own, or",
        ),
        (
            "masked",
            "gpt2",
            "an encoder, but gpt2 is a decoder; give .* causal, its own, or .* of bert, roberta",
        ),
        ("denoising", "lstm", "an encoder-decoder, but lstm is a decoder; .* a family of bart, t5, transf"),
        ("span_corruption", "bert", "an encoder-decoder, but bert is an encoder; "),
        ("completion", "roberta", "a decoder or an encoder-decoder, but roberta is an encoder"),
    ],
)
def test_a_wrong_pair_is_refused_with_the_right_one(
    objective: str, name: str, words: str, tmp_path: Path
) -> None:
    words = f"the objective {objective} trains {words}"
    with pytest.raises(ConfigError, match=words):
        pretrain("builtin:prose", out=tmp_path / "run", family=name, objective=objective)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=words):
        seedbed.plan(name, overrides=[f"objective.name={objective}"])


def test_a_base_is_refused_likewise_and_has_its_family_s_own(tmp_path: Path) -> None:
    seedbed.new(seedbed.new("bert:tiny").config, seed=0).save(tmp_path / "bert")
    with pytest.raises(ConfigError, match="causal trains a decoder, but bert is an encoder"):
        seedbed.plan(tmp_path / "bert", overrides=["objective.name=causal"])
    layers = {"data": {"train": "builtin:prose"}, "model": {"base": str(tmp_path / "bert")}}
    assert load_run(layers)[0].objective.name == "masked"


def test_an_objective_has_its_own_keys(tmp_path: Path) -> None:
    layers = {"data": {"train": "builtin:prose"}, "model": {"family": "t5"}}
    settings, _ = load_run(layers, overrides=["objective.rate=0.5"])
    assert settings.objective.rate == 0.5 and settings.objective.mixture == "none"
    with pytest.raises(UsageError, match="unknown setting 'whole_words' in \\[objective\\]"):
        load_run(layers, overrides=["objective.whole_words=true"])
    with pytest.raises(UsageError, match="no objective is named 'mask'; did you mean 'masked'"):
        load_run(layers, overrides=["objective.name=mask"])


def test_a_tokenizer_without_what_the_objective_needs_is_refused(tmp_path: Path) -> None:
    train_tokenizer([], "bytes").save(tmp_path / "tokenizer")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps({"text": f"document {i} of words"}) for i in range(60)))
    options = {"tokenizer": str(tmp_path / "tokenizer"), "steps": 1}
    for name, words in (("t5", "needs sentinels"), ("bart", "needs a mask token"), ("bert", "needs a mask")):
        with pytest.raises(ConfigError, match=words):
            pretrain(str(corpus), out=tmp_path / name, family=name, **options)


def test_a_base_s_own_start_token_is_what_its_decoder_reads_first(tmp_path: Path) -> None:
    """Marian's published files begin answers with the padding token, the last of the vocabulary."""
    tokenizer = train_tokenizer([f"document {i} of words" for i in range(60)], vocab_size=300, special=MARIAN)
    config = replace(family("transformer").sized(32, 1), vocab_size=tokenizer.vocab_size, max_positions=64)
    lm = seedbed.new(config, tokenizer=tokenizer)
    lm.save(tmp_path / "base")
    file = tmp_path / "base" / "generation_config.json"
    start = tokenizer.vocab_size - 1
    file.write_text(json.dumps(json.loads(file.read_text()) | {"decoder_start_token_id": start}))
    corpus = tmp_path / "pairs.jsonl"
    corpus.write_text("\n".join(json.dumps({"input": f"a {i}", "target": f"b {i}"}) for i in range(60)))
    overrides = [f"model.base={tmp_path / 'base'}", "training.context_tokens=16", "training.batch_tokens=64"]
    options = {"objective": "completion", "steps": 2, "overrides": [*overrides, "training.precision=float32"]}
    begun = Start(base=Base.open(tmp_path / "base"))
    assert begun.decoder_start_id(config) == start != Start().decoder_start_id(config)
    pretrain(str(corpus), out=tmp_path / "run", **options)
    saved = json.loads((tmp_path / "run" / "model" / "generation_config.json").read_text())
    assert saved["decoder_start_token_id"] == start


def test_few_steps_of_a_recipe_have_their_own_warm_up() -> None:
    few, many = (run_settings("builtin:prose", recipe="fast", steps=steps)[0].training for steps in (2, 500))
    assert (few.warmup_steps, few.num_warmup_steps, many.warmup_steps) == (None, 0, 20)


def test_a_recipe_s_size_yields_to_a_base(tmp_path: Path) -> None:
    seedbed.new(seedbed.new("bert:tiny").config, seed=0).save(tmp_path / "bert")
    settings, _ = run_settings("builtin:prose", recipe="fast", overrides=[f"model.base={tmp_path / 'bert'}"])
    assert settings.model.d_model is None and settings.training.optimizer == "muon"
    assert run_settings("builtin:prose", recipe="fast")[0].model.d_model == 96
