"""Files as `transformers` and the hub have them: settings that change numbers, legacy names."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.models.reference import randomize

import seedbed
from seedbed.base.errors import BundleError
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.hub.model_contents import describe_bundle
from seedbed.models.network import family
from seedbed.nn.layout import Layout

T5: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
}
GPT2: dict[str, Any] = {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
BERT: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
IDS = torch.randint(3, 90, (20,), generator=torch.Generator().manual_seed(1))


def saved(folder: Path, model: Any) -> Path:
    """A model of `transformers` with weights that show every part, written by it."""
    randomize(model)
    model.save_pretrained(folder)
    return folder


def refused(folder: Path) -> str:
    """The one-line error of loading the folder."""
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@torch.no_grad()
def answers(folder: Path) -> torch.Tensor:
    """Our logits (T, V) of an encoder-decoder's folder."""
    module: Any = open_bundle(folder)[0]
    layout = Layout.of([len(IDS)])
    logits: torch.Tensor = module.output(module(IDS, layout, source=IDS, source_layout=layout))
    return logits


@torch.no_grad()
def of_t5(folder: Path) -> torch.Tensor:
    """Those of `transformers`."""
    model: Any = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    logits: torch.Tensor = model(input_ids=IDS[None], decoder_input_ids=IDS[None]).logits[0]
    return logits


@pytest.mark.parametrize("name", ["scale_attn_weights", "scale_attn_by_inverse_layer_idx"])
def test_gpt2_with_another_scale_of_attention_is_refused(name: str, tmp_path: Path) -> None:
    config = transformers.GPT2Config(**GPT2, **{name: name != "scale_attn_weights"})
    folder = saved(tmp_path / "gpt2", transformers.GPT2LMHeadModel(config))
    with pytest.raises(BundleError, match=f"has {name}=.*GPT-2 scales attention by .*; allowed: "):
        open_bundle(folder)


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_cohere_with_scaled_positions_is_refused_in_the_legacy_spelling_too(key: str, tmp_path: Path) -> None:
    config = replace(family("palm").sized(64, 2), vocab_size=99)
    seedbed.new(config).save(tmp_path)
    change(tmp_path, rope_parameters=None, rope_theta=1e4, rope_scaling={key: "linear", "factor": 2.0})
    with pytest.raises(BundleError, match=r"rotary scaling 'linear' .* allowed: default"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "gated-relu", "gated-gelu", "gated-silu"])
def test_t5_has_the_gelu_that_its_config_means(name: str, tmp_path: Path) -> None:
    config = transformers.T5Config(**T5, feed_forward_proj=name)
    folder = saved(tmp_path / "t5", transformers.T5ForConditionalGeneration(config))
    expected = of_t5(folder)
    assert (answers(folder) - expected).abs().max() < 2e-4
    save_bundle(tmp_path / "ours", open_bundle(folder)[0])
    assert (of_t5(tmp_path / "ours") - expected).abs().max() < 2e-4


def test_t5_with_an_output_that_is_not_scaled_is_read_however_it_is_written(tmp_path: Path) -> None:
    """FLAN-T5 as it was published, saved again by a newer tool, and fine-tuned from the start by one."""
    config = transformers.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    tied = saved(tmp_path / "tied", transformers.T5ForConditionalGeneration(config))
    assert json.loads((tied / "config.json").read_text())["tie_word_embeddings"]
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    first = saved(tmp_path / "first", transformers.T5ForConditionalGeneration(config))
    own = {"lm_head.weight": torch.randn(99, 32, generator=torch.Generator().manual_seed(2))}
    save_file(load_file(first / "model.safetensors") | own, first / "model.safetensors", {"format": "pt"})
    change(first, tie_word_embeddings=False)
    again = transformers.T5ForConditionalGeneration.from_pretrained(first)
    again.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["tie_word_embeddings"]
    for folder in (tied, first, tmp_path / "again"):
        expected = of_t5(folder)
        assert expected.abs().max() > 3
        assert (answers(folder) - expected).abs().max() < 2e-4
        save_bundle(tmp_path / "ours", open_bundle(folder)[0], force=True)
        assert (of_t5(tmp_path / "ours") - expected).abs().max() < 2e-4


@torch.no_grad()
def test_a_classifier_without_a_tokenizer_keeps_its_padding(tmp_path: Path) -> None:
    """BART's class cannot run without it, LLaMA's with one row only."""
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 99}
    config = transformers.BartConfig(**sizes, num_labels=3, max_position_embeddings=64)
    folder = saved(tmp_path / "theirs", transformers.BartForSequenceClassification(config))
    seedbed.load(folder).save(tmp_path / "ours")
    again = transformers.BartForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    rows = torch.cat([IDS, torch.tensor([2])]).expand(2, -1)
    assert (again(rows).logits - seedbed.load(folder).logits(rows)).abs().max() < 2e-4


@torch.no_grad()
def test_bert_with_norms_named_as_in_tensorflow_is_read(tmp_path: Path) -> None:
    """As the published bert-base-uncased is."""
    model = transformers.BertForPreTraining(transformers.BertConfig(**BERT)).eval()
    file = saved(tmp_path / "bert", model) / "model.safetensors"
    ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = load_file(file)
    for name in [name for name in tensors if name.endswith(tuple(ends))]:
        end = next(end for end in ends if name.endswith(end))
        tensors[name.removesuffix(end) + ends[end]] = tensors.pop(name)
    save_file(tensors, file, {"format": "pt"})
    assert "bert.embeddings.LayerNorm.gamma" in tensors
    module: Any = open_bundle(file.parent)[0]
    expected = model(IDS[None]).prediction_logits[0]
    assert (module.output(module(IDS, Layout.of([len(IDS)]))) - expected).abs().max() < 2e-4


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        (
            "BertForQuestionAnswering",
            transformers.BertConfig(**BERT),
            "no place for, first qa_outputs.bias; config.json names the class 'BertForQuestionAnswering'; "
            "supported for bert: BertForMaskedLM, BertForSequenceClassification, "
            "BertForTokenClassification, BertModel; take a model of these",
        ),
        (
            "T5EncoderModel",
            transformers.T5Config(**T5),
            "config.json names the class 'T5EncoderModel'; supported for t5: T5ForConditionalGeneration; ",
        ),
        (
            "LlamaModel",
            transformers.LlamaConfig(**BERT),
            "first lm_head.weight; config.json names the class 'LlamaModel'; supported for llama: Llama",
        ),
    ],
)
def test_a_class_that_is_not_supported_is_named(name: str, config: Any, words: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", getattr(transformers, name)(config))
    for said in (refused(folder), *describe_bundle(folder)["problems"]):
        assert words in said and said.startswith(f"{folder / 'model.safetensors'}: ")
    change(folder, architectures=None)
    assert "config.json names no class; supported for " in refused(folder)


def test_quantized_weights_are_refused_with_their_method(tmp_path: Path) -> None:
    """As 8-bit floating point weights are, whose scales are the first unknown tensors."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**BERT))
    file = saved(tmp_path / "model", model) / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.0.mlp.up_proj.weight"
    scaled = {name: tensors[name].to(torch.float8_e4m3fn), f"{name}_scale_inv": torch.ones(1, 1)}
    save_file(tensors | scaled, file, {"format": "pt"})
    change(file.parent, quantization_config={"quant_method": "fp8"})
    assert "config.json says that they are quantized by 'fp8', which is not supported; take" in refused(
        file.parent
    )


def test_an_error_that_config_json_does_not_explain_is_unchanged(tmp_path: Path) -> None:
    folder = saved(tmp_path, transformers.BertForMaskedLM(transformers.BertConfig(**BERT)))
    change(folder, num_hidden_layers=3)
    assert refused(folder).endswith("; the file is cut or is of another config")
