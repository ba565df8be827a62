"""What follows the last layer: files of the base classes, which have a pooler or no head."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import seedbed
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import family
from seedbed.nn.layout import Layout

SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 60,
}
CLASSES = {
    "bert": (transformers.BertModel, transformers.BertConfig(**SIZES)),
    "roberta": (transformers.RobertaModel, transformers.RobertaConfig(**SIZES, layer_norm_eps=1e-5)),
}


@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_an_encoder_without_a_head_gives_states_and_pooled_ones(
    name: str, tmp_path: Path, fill_randomly: Any
) -> None:
    model_class, config = CLASSES[name]
    oracle: Any = model_class(config).eval()
    fill_randomly(oracle)
    oracle.save_pretrained(tmp_path / "theirs")
    module: Any = open_bundle(tmp_path / "theirs")[0]
    assert module.config.head.kind == "none" and module.config.head.pooler
    rows = [torch.arange(4, 13), torch.arange(20, 25)]
    layout = Layout.of([9, 5])
    hidden = module.output(module(torch.cat(rows), layout))
    pooled = module.pool(hidden, layout)
    for row, states, one in zip(rows, hidden.split([9, 5]), pooled, strict=True):
        theirs = oracle(row[None])
        assert (states - theirs.last_hidden_state[0]).abs().max() < 2e-5
        assert (one - theirs.pooler_output[0]).abs().max() < 2e-5
    save_bundle(tmp_path / "ours", module)
    again, info = model_class.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before, after = oracle.state_dict(), again.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@torch.no_grad()
def test_the_published_bert_has_a_masked_head_a_pooler_and_one_that_is_left_out(
    tmp_path: Path, fill_randomly: Any
) -> None:
    oracle: Any = transformers.BertForPreTraining(CLASSES["bert"][1]).eval()
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
def test_a_tied_table_may_lie_under_any_of_its_names(
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
def test_an_encoder_decoder_keeps_the_token_that_answers_start_with(tmp_path: Path) -> None:
    """Of its generation_config.json, of an older file's config.json, and in what is made anew."""
    lm = seedbed.new(replace(family("bart").sized(64, 2), vocab_size=31), seed=0)
    lm.save(tmp_path / "bart")
    again = seedbed.load(tmp_path / "bart")
    assert again.generation["decoder_start_token_id"] == 2
    (tmp_path / "bart" / "generation_config.json").unlink()
    older = seedbed.load(tmp_path / "bart")
    assert older.generation["decoder_start_token_id"] == 2
    source = [5, 6, 7]
    answers = [m.generate(source, 5, num_beams=2, eos_ids=()).token_ids for m in (again, older)]
    assert answers[0] == answers[1] and len(answers[0]) == 5
