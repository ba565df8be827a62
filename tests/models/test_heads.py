"""What follows the last layer: files of the base classes, which have a pooler or no head."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import models, pre_tokenizers, processors

import seedbed
from seedbed.base.errors import BundleError, ConfigError, SeedbedError, UsageError
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import FAMILIES, family
from seedbed.nn.config import LABELLED, HeadConfig
from seedbed.nn.layout import Layout
from seedbed.runs.network import require_matching_family

HEADLESS = [name for name in FAMILIES.names() if "none" in family(name).architectures]


def tiny(name: str, **fields: Any) -> Any:
    return replace(family(name).sized(64, 3), vocab_size=101, num_heads=4, dropout=0.0, **fields)


def published_config(name: str, **changes: Any) -> Any:
    """The public class's config of a tiny network."""
    values = changes | family(name).write_config(tiny(name))
    return transformers.AutoConfig.for_model(values.pop("model_type"), **values)


@pytest.fixture
def word_pieces() -> Any:
    """A tokenizer as BERT's with a few words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "a", "dog"]
    core = tokenizers.Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, mask_token="[MASK]", **named)


@pytest.mark.parametrize("name", HEADLESS)
@torch.no_grad()
def test_an_encoder_without_a_head_gives_states_and_pooled_ones(
    name: str, tmp_path: Path, fill_randomly: Any
) -> None:
    model_class: Any = getattr(transformers, family(name).architectures["none"])
    oracle: Any = model_class(published_config(name)).eval()
    fill_randomly(oracle)
    oracle.save_pretrained(tmp_path / "theirs")
    module: Any = open_bundle(tmp_path / "theirs")[0]
    assert module.config.head.kind == "none" and module.config.head.pooler
    rows = [torch.arange(4, 13), torch.arange(20, 25)]
    layout = Layout.of([9, 5])
    hidden = module.output(module(torch.cat(rows), layout))
    pooled = torch.tanh(module.pooler(hidden[[0, 9]]))
    for row, states, one in zip(rows, hidden.split([9, 5]), pooled, strict=True):
        theirs = oracle(row[None])
        assert (states - theirs.last_hidden_state[0]).abs().max() < 2e-5
        assert (one - theirs.pooler_output[0]).abs().max() < 2e-5
    save_bundle(tmp_path / "ours", module)
    again, info = model_class.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before, after = oracle.state_dict(), again.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


LABELS = ("negative", "so so", "positive")
EACH = [(kind, name) for name in FAMILIES.names() for kind in family(name).architectures if kind in LABELLED]


def labelled_oracle(kind: Any, name: str, fill_randomly: Any) -> Any:
    """The published class with three labels and random weights."""
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    theirs = published_config(name, pad_token_id=1, **named)
    oracle = getattr(transformers, family(name).architectures[kind])(theirs).eval()
    fill_randomly(oracle, std=0.2)
    return oracle


@pytest.mark.parametrize(("kind", "name"), EACH)
@torch.no_grad()
def test_a_head_with_labels_equals_the_published_class(
    kind: Any, name: str, tmp_path: Path, fill_randomly: Any
) -> None:
    oracle = labelled_oracle(kind, name, fill_randomly)
    oracle.save_pretrained(tmp_path / "theirs")
    lm = seedbed.load(tmp_path / "theirs")
    head = lm.config.head
    assert head.kind == kind and head.labels == LABELS
    # BART's class reads the last end token, and so needs one.
    rows = [torch.tensor([*range(4, 13), 2]), torch.tensor([*range(20, 25), 2])]
    ids, mask = torch.ones(2, 12, dtype=torch.long), torch.zeros(2, 12)
    for r, (row, start) in enumerate(zip(rows, (0, 4), strict=True)):  # padded right, and on both sides
        ids[r, start : start + len(row)], mask[r, start : start + len(row)] = row, 1
    ours = lm.logits(ids, attention_mask=mask)
    for r, row in enumerate(rows):
        theirs = oracle(row[None]).logits[0]
        mine = ours[r] if kind == "classification" else ours[r][mask[r].bool()]
        assert mine.shape == theirs.shape and theirs.abs().max() > 0.1
        assert (mine - theirs).abs().max() < 1e-4
    lm.save(tmp_path / "ours")
    again, info = type(oracle).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.config.id2label == dict(enumerate(LABELS))
    before, after = oracle.state_dict(), again.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    # The class that a user gets who does not name one.
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert written["architectures"] == [type(oracle).__name__]


@torch.no_grad()
def test_classes_of_texts_have_the_scores_of_the_published_pipeline(
    tmp_path: Path, fill_randomly: Any, word_pieces: Any
) -> None:
    oracle = labelled_oracle("classification", "bert", fill_randomly)
    oracle.save_pretrained(tmp_path)
    word_pieces.save_pretrained(tmp_path)
    texts = ["the cat sat on the mat", "a dog", "the the the dog sat on a mat on a mat"]
    pipeline: Any = transformers.pipeline(
        "text-classification", model=oracle, tokenizer=word_pieces, top_k=None
    )
    lm = seedbed.load(tmp_path)
    for found, theirs in zip(lm.classify(texts), pipeline(texts), strict=True):
        expected = {one["label"]: one["score"] for one in theirs}
        assert found.scores == pytest.approx(expected, abs=1e-5)
        assert found.label == max(expected, key=lambda label: expected[label])
    single = lm.classify(texts[1])
    assert single.label == lm.classify(texts)[1].label
    assert lm.classify(lm.tokenizer.encode_document(texts[1])) == single
    # Independent labels: the same weights, other probabilities.
    config = json.loads((tmp_path / "config.json").read_text())
    config["problem_type"] = "multi_label_classification"
    (tmp_path / "config.json").write_text(json.dumps(config))
    several = seedbed.load(tmp_path).classify(texts[0]).scores
    ids = torch.tensor([lm.tokenizer.encode_document(texts[0])])
    expected = oracle(ids).logits[0].sigmoid().tolist()
    assert list(several.values()) == pytest.approx(expected, abs=1e-5)


def test_tags_of_texts_are_those_of_the_published_pipeline(
    tmp_path: Path, fill_randomly: Any, word_pieces: Any
) -> None:
    oracle = labelled_oracle("tagging", "bert", fill_randomly)
    oracle.save_pretrained(tmp_path)
    word_pieces.save_pretrained(tmp_path)
    text = "the cat sat on the mat"
    pipeline: Any = transformers.pipeline(
        "token-classification", model=oracle, tokenizer=word_pieces, ignore_labels=[]
    )
    lm = seedbed.load(tmp_path)
    words, theirs = lm.tag(text).words, pipeline(text)
    assert [(w.start, w.end, w.label) for w in words] == [(t["start"], t["end"], t["entity"]) for t in theirs]
    assert [w.score for w in words] == pytest.approx([float(t["score"]) for t in theirs], abs=1e-5)
    assert [w.text for w in words] == text.split()
    assert lm.tag(text.split()) == lm.tag(text)
    assert lm.tag([text.split(), ["a", "dog"]])[0] == lm.tag(text)
    # The label of a word is that of its first piece; a comma is a word.
    several = lm.tag("catmat,the mat")
    ids = lm.tokenizer.encode_document("catmat,the mat")
    assert [w.text for w in several.words] == ["catmat", ",", "the", "mat"]
    first = int(lm.logits(torch.tensor([ids]))[0, 1].argmax())
    assert several.words[0].label == lm.config.head.labels[first]
    for odd in (["a b"], [""], ["a", 3]):
        with pytest.raises(UsageError, match=r"is not a word|neither a text nor a list"):
            lm.tag(odd)


@torch.no_grad()
def test_a_pooler_of_a_legacy_file_with_classes_is_loaded(tmp_path: Path, fill_randomly: Any) -> None:
    oracle = labelled_oracle("classification", "roberta", fill_randomly)
    oracle.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    pooler = {"weight": torch.randn(64, 64), "bias": torch.randn(64)}
    tensors |= {f"roberta.pooler.dense.{name}": tensor for name, tensor in pooler.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    lm = seedbed.load(tmp_path)
    ids = torch.arange(4, 13)[None]
    assert (lm.logits(ids) - oracle(ids).logits).abs().max() < 1e-4
    lm.save(tmp_path / "again")
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == set(tensors)


def test_one_label_is_a_regression(tmp_path: Path) -> None:
    head = HeadConfig(kind="classification", pooler=True, labels=("score",))
    lm = seedbed.new(tiny("bert", head=head))
    expected = lm.logits(torch.tensor([[5, 6, 7]]))[0, 0].item()
    assert lm.classify([5, 6, 7]).scores == {"score": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "id2label has no labels 0, 1, 2"),
        ({"id2label": []}, "id2label has no labels"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "id2label has 'a' 2 times; give each logit"),
        ({"problem_type": "regression"}, "'regression' with 3 labels is not supported"),
        ({"id2label": {}}, "id2label has no labels"),
        ({"id2label": {"0": "a"}}, r"the shape \(3, 64\), but the config needs \(1, 64\)"),
        ({"num_labels": 10**9, "id2label": None}, "id2label has no labels"),
    ],
)
def test_invalid_labels_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path, fill_randomly: Any
) -> None:
    labelled_oracle("classification", "bert", fill_randomly).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BundleError, match=message):
        seedbed.load(tmp_path)


def test_a_file_without_labels_has_numbered_ones(tmp_path: Path, fill_randomly: Any) -> None:
    labelled_oracle("classification", "bert", fill_randomly).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    del values["id2label"], values["label2id"]
    file.write_text(json.dumps(values | {"num_labels": 3}))
    assert seedbed.load(tmp_path).config.head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lm: lm.generate([5, 6]), "gives labels, not text; use `lm.classify`"),
        (lambda lm: lm.score([5], [6]), "gives labels, not text"),
        (lambda lm: lm.tag([5, 6]), "this network has no tags: its head is 'classification'"),
        (lambda lm: lm.classify([]), None),
        (lambda lm: lm.classify([[]]), "a text is empty"),
        (lambda lm: lm.classify([[500]]), "token id 500 is not in the vocabulary"),
        (lambda lm: lm.classify("a text"), "needs a tokenizer"),
        (
            lambda lm: lm.logits(torch.tensor([[5, 6]]), document_ids=torch.tensor([[0, 1]])),
            "1 rows have 2 documents",
        ),
    ],
)
def test_calls_that_a_head_with_labels_lacks_are_refused(call: Any, message: str | None) -> None:
    lm = seedbed.new(tiny("llama", head=HeadConfig(kind="classification", labels=LABELS)))
    if message is None:
        assert call(lm) == []
        return
    with pytest.raises(UsageError, match=message):
        call(lm)


def test_labels_need_a_head_for_them() -> None:
    for wrong in ({"labels": LABELS}, {"kind": "tagging"}, {"kind": "none", "labels": LABELS}):
        with pytest.raises(ConfigError, match="labels belong to classification and tagging"):
            HeadConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SeedbedError, match="no classes: its head is 'lm'"):
        seedbed.new(tiny("gpt2")).classify([5])


def test_a_network_with_labels_is_not_trained_on_tokens() -> None:
    config = tiny("llama", head=HeadConfig(kind="classification", labels=LABELS))
    with pytest.raises(ConfigError, match="trains tokens, but this network's head gives the labels negative"):
        require_matching_family(config, "causal")


@torch.no_grad()
def test_the_published_bert_has_a_masked_head_a_pooler_and_one_that_is_left_out(
    tmp_path: Path, fill_randomly: Any
) -> None:
    oracle: Any = transformers.BertForPreTraining(published_config("bert")).eval()
    fill_randomly(oracle)
    oracle.save_pretrained(tmp_path)
    assert any("seq_relationship" in key for key in load_file(tmp_path / "model.safetensors"))
    module: Any = open_bundle(tmp_path)[0]
    assert module.config.head.kind == "mlm" and module.config.head.pooler
    ids = torch.arange(4, 16)
    expected = oracle(ids[None]).prediction_logits[0]
    assert (module.output(module(ids, Layout.of([12]))) - expected).abs().max() < 2e-4


@pytest.mark.parametrize(
    ("renamed", "kept"),
    [
        ({"shared.weight": "lm_head.weight"}, "an output in place of the embedding that it is tied to"),
        ({"shared.weight": "encoder.embed_tokens.weight"}, "a stack's table in place of the shared one"),
    ],
)
def test_a_tied_table_may_be_stored_under_any_of_its_names(
    renamed: dict[str, str], kept: str, tmp_path: Path, fill_randomly: Any
) -> None:
    shape = {"vocab_size": 101, "d_model": 64, "d_kv": 8, "d_ff": 96, "num_layers": 2, "num_heads": 4}
    oracle: Any = transformers.T5ForConditionalGeneration(transformers.T5Config(**shape)).eval()
    fill_randomly(oracle)
    oracle.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({renamed.get(name, name): tensor for name, tensor in tensors.items()}, file)
    module: Any = open_bundle(tmp_path)[0]
    assert torch.equal(module.embed.weight, oracle.shared.weight), kept


@torch.no_grad()
def test_an_encoder_decoder_has_the_first_token_of_its_answers(tmp_path: Path) -> None:
    """From its generation_config.json, from a legacy file's config.json, and in a new network."""
    lm = seedbed.new(replace(family("bart").sized(64, 2), vocab_size=31), seed=0)
    lm.save(tmp_path / "bart")
    again = seedbed.load(tmp_path / "bart")
    assert again.generation["decoder_start_token_id"] == 2
    (tmp_path / "bart" / "generation_config.json").unlink()
    legacy = seedbed.load(tmp_path / "bart")
    assert legacy.generation["decoder_start_token_id"] == 2
    source = [5, 6, 7]
    answers = [m.generate(source, 5, num_beams=2, eos_ids=()).token_ids for m in (again, legacy)]
    assert answers[0] == answers[1] and len(answers[0]) == 5
