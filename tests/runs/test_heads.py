"""Runs that learn labels: from scratch, on a base's body, resumed, and loaded by `transformers`."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.moments import At, kill

import seedbed
from seedbed.api.pretrain import pretrain
from seedbed.base.errors import ConfigError, SeedbedWarning
from seedbed.hub.bundle import open_bundle
from seedbed.models.network import family
from seedbed.nn.config import HeadConfig
from seedbed.runs.network import with_head
from seedbed.runs.train import Run
from seedbed.select import rehearsal
from seedbed.text.training import train_tokenizer

WORDS = ["a", "the", "film", "was", "on"]
TEXTS = [
    {"input": f"{WORDS[n % 5]} {WORDS[n // 5 % 5]} {mood} {WORDS[n // 2 % 5]}", "target": mood[::-1]}
    for n in range(75)
    for mood in ("fine", "dull")
]
TAGGED = [
    {"input": words, "target": ["B-NAME" if word in ("Ada", "Bob") else "O" for word in words]}
    for n in range(75)
    for name in ("Ada", "Bob")
    for words in [[WORDS[n % 5], name, WORDS[n // 5 % 5], WORDS[n // 2 % 5]]]
]
SIZES = ["model.d_model=32", "model.num_layers=1", "model.dropout=0.0"]
SETTINGS = [
    *("tokenizer.kind=words", "tokenizer.vocab_size=300", "data.deduplicate=false"),
    *("data.validation_fraction=0.25", "training.batch_tokens=192", "training.context_tokens=16"),
    *("training.learning_rate=0.01", "training.checkpoint_every_steps=10", "training.precision=float32"),
]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start or resume a tiny run."""
    monkeypatch.setattr(rehearsal, "TIMING_SECONDS", 0.01)
    for name, records in (("classification", TEXTS), ("tagging", TAGGED)):
        (tmp_path / name).with_suffix(".jsonl").write_text("\n".join(map(json.dumps, records)))

    def run(objective: str, *overrides: str, out: str = "run", steps: int = 40, **options: Any) -> Run:
        data, own = str(tmp_path / f"{objective}.jsonl"), [*SETTINGS, *overrides]
        if any(one.startswith("model.base=") for one in own):  # it has its own tokenizer
            own = [one for one in own if not one.startswith("tokenizer.")]
        return pretrain(data, out=tmp_path / out, objective=objective, steps=steps, overrides=own, **options)

    return run


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart"])
def test_a_run_learns_the_label_of_a_text(name: str, begin: Any) -> None:
    result = begin("classification", *SIZES, family=name)
    lm = seedbed.load(result.model)
    assert lm.config.head.kind == "classification" and lm.config.head.labels == ("enif", "llud")
    texts = [record["input"] for record in TEXTS]
    assert [one.label for one in lm.classify(texts)] == [record["target"] for record in TEXTS]
    assert result.metrics["loss"]["value"] < 0.1
    lines = map(json.loads, (result.run / "metrics.jsonl").read_text().splitlines())
    shares = [line["accuracy"] for line in lines if line["kind"] == "evaluation"]
    assert shares[-1] == 1.0
    figures = result.summary()["metrics"]
    assert figures == json.loads((result.run / "metrics.json").read_text())
    assert figures["accuracy"]["value"] == figures["macro_f1"]["value"] == 1.0
    assert figures["accuracy"]["interval"][0] > figures["majority_share"]["value"] > 0.3
    assert figures["worked"] == "yes" and figures["before"] is None and "entity_f1" not in figures
    counts = figures["confusion"]["counts"]
    assert {name: held for name, (_, held) in figures["label_counts"].items()} == {
        name: sum(row) for name, row in zip(("enif", "llud"), counts, strict=True)
    }
    assert sum(map(sum, figures["label_counts"].values())) == len(TEXTS)
    assert figures["macro_f1"]["interval"] is None  # all right: the spread is unknown
    assert sum(map(sum, counts)) == figures["num_records"] == counts[0][0] + counts[1][1]
    card = (result.model / "README.md").read_text()
    assert "| accuracy | 100.0% (" in card and "| objective | classification |" in card
    assert "A " + name + " text classifier" in card and "| context | 16 tokens |" in card
    assert f"tags: [{name}, text-classification]" in card and "nats per label" in card
    assert "It gives a text one of 2 labels: enif, llud." in card
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(result.model).eval()
    assert theirs.config.id2label == {0: "enif", 1: "llud"}
    ids = torch.tensor([lm.tokenizer.encode_document(texts[0])])
    if name == "bart":  # its class looks for the last end token, and knows of padding
        theirs.config.eos_token_id, theirs.config.pad_token_id = int(ids[0, -1]), 0
    with torch.no_grad():
        assert (theirs(ids).logits - lm.logits(ids)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_run_learns_the_tags_of_words(name: str, begin: Any) -> None:
    result = begin("tagging", *SIZES, family=name)
    lm = seedbed.load(result.model)
    figures = result.metrics
    assert figures["entity_f1"]["value"] == figures["accuracy"]["value"] == 1.0 and figures["worked"] == "yes"
    assert figures["majority_label"] == "O" and figures["majority_share"]["value"] == 0.75
    assert lm.config.head.kind == "tagging" and lm.config.head.labels == ("B-NAME", "O")
    for record in TAGGED:
        tagging = lm.tag(record["input"])
        assert [word.label for word in tagging.words] == record["target"]
        names = [w for w, tag in zip(record["input"], record["target"], strict=True) if tag == "B-NAME"]
        assert [(entity.label, entity.text) for entity in tagging.entities] == [("NAME", n) for n in names]
        text = tagging.text
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(result.model).eval()
    ids = torch.tensor([lm.tokenizer.encode_document(text)])
    with torch.no_grad():
        assert (theirs(ids).logits - lm.logits(ids)).abs().max() < 1e-5


@pytest.mark.parametrize("objective", ["classification", "tagging"])
def test_a_resumed_run_is_the_one_never_stopped(objective: str, begin: Any, tmp_path: Path) -> None:
    whole = begin(objective, *SIZES, family="bert", out="whole")
    with pytest.raises(KeyboardInterrupt):
        begin(objective, *SIZES, family="bert", callbacks=[At("step", 25, kill)])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 25
    again = begin(objective, *SIZES, family="bert")
    assert again.metrics == whole.metrics
    ours, theirs = (open_bundle(r.model)[0].state_dict() for r in (again, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A masked BERT with a pooler, and its tokenizer."""
    tokenizer = train_tokenizer([text["input"] for text in TEXTS], "words", vocab_size=300)
    small = replace(family("bert").sized(32, 1), vocab_size=300, max_positions=16, dropout=0.0)
    config = replace(small, head=HeadConfig(kind="mlm", pooler=True))
    seedbed.new(config, tokenizer=tokenizer, seed=5).save(tmp_path / "base")
    return tmp_path / "base"


def test_a_base_gives_its_body_and_the_seed_the_head(base: Path) -> None:
    head = family("bert").labelled("classification", ("no", "yes"))

    def made(seed: int) -> dict[str, torch.Tensor]:
        module = with_head(open_bundle(base)[0], head, torch.Generator().manual_seed(seed))
        return module.state_dict()

    body = open_bundle(base)[0].state_dict()
    one, again, other = made(1), made(1), made(2)
    shared = set(one) & set(body)
    assert set(one) - shared == {"classifier.weight", "classifier.bias"}
    assert {name.split(".")[0] for name in set(body) - shared} == {"transform", "output_bias"}
    assert all(torch.equal(one[name], body[name]) for name in shared)
    assert torch.equal(one["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_a_masked_head_s_transform_is_not_taken_for_classes(tmp_path: Path) -> None:
    """RoBERTa's two heads have a product of one name and shape."""
    config = replace(family("roberta").sized(32, 1), vocab_size=300, max_positions=16)
    seedbed.new(config, seed=5).save(tmp_path)
    head = family("roberta").labelled("classification", ("no", "yes"))
    before: Any = open_bundle(tmp_path)[0]
    after: Any = with_head(before, head, torch.Generator().manual_seed(1))
    assert not torch.equal(after.transform.dense.weight, before.transform.dense.weight)
    assert after.encoder is before.encoder and after.embed is before.embed


def test_a_run_from_a_base_and_one_from_its_model(begin: Any, base: Path, tmp_path: Path) -> None:
    """The same labels keep their head, in its own order; others replace it, with a warning."""
    first = begin("classification", f"model.base={base}")
    lm = seedbed.load(first.model)
    lines = [json.loads(line) for line in (first.run / "metrics.jsonl").read_text().splitlines()]
    assert (lines[0]["kind"], lines[0]["step"]) == ("evaluation", 0)
    assert first.metrics["before"]["accuracy"]["value"] == lines[0]["accuracy"] < 1.0
    assert first.metrics["before"]["loss"]["value"] == lines[0]["loss"] > first.metrics["loss"]["value"]
    card = (first.model / "README.md").read_text()
    assert f"| parent | `{base}`" in card and "| before training | accuracy " in card
    assert [one.label for one in lm.classify([r["input"] for r in TEXTS])] == [r["target"] for r in TEXTS]
    # A head that gives the same labels in another order.
    config = replace(lm.config, head=replace(lm.config.head, labels=("llud", "enif")))
    edited: Any = seedbed.new(config, tokenizer=lm.tokenizer)
    edited.module.load_state_dict(lm.module.state_dict())
    with torch.no_grad():
        for parameter in edited.module.classifier.parameters():
            parameter.copy_(parameter.flip(0))
    edited.save(tmp_path / "edited")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SeedbedWarning)
        second = begin("classification", f"model.base={tmp_path / 'edited'}", out="second", steps=1)
    assert seedbed.load(second.model).config.head.labels == ("llud", "enif")
    assert second.metrics["training_loss"] < 0.1  # it starts from what it has learned
    with pytest.warns(
        SeedbedWarning, match=r"head gives 2 labels \(llud, enif ...\); it is replaced by a new"
    ):
        third = begin("tagging", f"model.base={tmp_path / 'edited'}", out="third", steps=1)
    assert seedbed.load(third.model).config.head.labels == ("B-NAME", "O")


@pytest.mark.parametrize(
    ("objective", "name", "words"),
    [
        ("classification", "lstm", "with a classification head, but lstm has no published class with one"),
        ("classification", "t5", "with a classification head, but t5 has no .*; choose a family of bart, "),
        ("tagging", "bart", "trains an encoder or a decoder, but bart is an encoder-decoder; "),
        ("tagging", "seedling", "with a tagging head, but seedling has no published class .* bert, bloom, "),
        ("tagging", "opt", "with a tagging head, but opt has no published class with one; "),
    ],
)
def test_a_family_without_such_a_class_is_refused(
    objective: str, name: str, words: str, begin: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        begin(objective, family=name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("objective", "name"),
    [(kind, name) for kind in ("classification", "tagging") for name in ("bert", "gpt2")]
    + [("classification", "bart")],
)
def test_a_plan_without_data_is_that_of_a_run_with_two_labels(objective: str, name: str, begin: Any) -> None:
    run = begin(objective, *SIZES, family=name, steps=1)
    lm = seedbed.load(run.model)
    assert len(lm.config.head.labels) == 2 and lm.tokenizer is not None
    tokens = f"tokenizer.vocab_size={lm.tokenizer.vocab_size}"
    found = seedbed.plan(name, overrides=[*SETTINGS, *SIZES, tokens, f"objective.name={objective}"])
    assert found.parameters == run.plan["parameters"] == sum(p.numel() for p in lm.module.parameters())
    assert found.bytes["weights"] == run.plan["bytes"]["weights"]
