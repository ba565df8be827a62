"""Bundles load in transformers and its bundles load here; damage is refused in one line, nothing is lost."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from seedbed.base.errors import BundleError, ConfigError, HardwareError, SeedbedError
from seedbed.hub.bundle import open_bundle, save_bundle
from seedbed.models.network import build, family, initialize
from seedbed.nn.config import AttentionConfig, PositionConfig, RotaryScaling
from seedbed.nn.layout import Layout
from seedbed.text.tokenizer import Tokenizer
from seedbed.text.training import train_tokenizer

TEXT = "What a model has read is what it may say; what it says is not always what it read."
LLAMA3 = RotaryScaling(kind="llama3", factor=8.0, original_positions=16)
PUBLIC: dict[str, dict[str, Any]] = {
    "gpt2": {"num_heads": 4},
    "gpt2 untied": {"num_heads": 2, "d_ff": 96, "activation": "relu", "tie_embeddings": False},
    "llama": {
        "num_heads": 4,
        "attention": AttentionConfig(num_kv_heads=2),
        "position": PositionConfig(kind="rotary", scaling=LLAMA3),
    },
    "llama tied": {"num_heads": 4, "attention": AttentionConfig(num_kv_heads=1), "tie_embeddings": True},
}


def make(name: str, vocab_size: int = 300, seed: int = 0) -> Any:
    config = replace(family(name.split()[0]).sized(64, 2), vocab_size=vocab_size, max_positions=48)
    module = build(replace(config, dropout=0.0, **PUBLIC[name])).eval()
    initialize(module, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)  # logits of order 10
    return module


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT] * 5, "bpe", vocab_size=300)


@pytest.fixture
def bundle(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    return save_bundle(tmp_path / "bundle", make("gpt2"), tokenizer)


@torch.no_grad()
def our_logits(module: Any, ids: torch.Tensor) -> torch.Tensor:
    return module.output(module(ids, Layout.of([len(ids)])))


@torch.no_grad()
def check_equal(module: Any, theirs: Any, tolerance: float = 2e-4) -> None:
    ids = torch.randint(250, (40,), generator=torch.Generator().manual_seed(1))
    expected = theirs.eval()(ids[None]).logits[0]
    assert expected.abs().max() > 3
    assert (our_logits(module, ids) - expected).abs().max() <= tolerance


def change_config(bundle: Path, **changes: Any) -> None:
    values = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps(values | changes))


def refused(bundle: Path, message: str, error: type[SeedbedError] = BundleError) -> None:
    with pytest.raises(error, match=message) as caught:
        open_bundle(bundle)
    assert "\n" not in str(caught.value)


# ---- to and from transformers


@pytest.mark.parametrize("name", PUBLIC)
def test_transformers_loads_what_we_save(name: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    module = make(name)
    save_bundle(tmp_path / "bundle", module, tokenizer)
    load = transformers.AutoModelForCausalLM.from_pretrained
    theirs, report = load(tmp_path / "bundle", output_loading_info=True)
    assert not any(report.values()), report
    assert theirs.dtype == torch.float32
    check_equal(module, theirs)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bundle")
    assert their_tokenizer(TEXT).input_ids == tokenizer.encode(TEXT)
    assert their_tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert their_tokenizer.eos_token_id == theirs.generation_config.eos_token_id == tokenizer.eos_id
    assert theirs.config.bos_token_id is None and theirs.config.pad_token_id is None


def test_transformers_loads_bfloat16_as_it_is(tmp_path: Path) -> None:
    module = make("llama").to(torch.bfloat16)
    save_bundle(tmp_path / "bundle", module)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "bundle")
    assert theirs.dtype == torch.bfloat16
    check_equal(module, theirs, tolerance=0.3)
    assert torch.equal(theirs.lm_head.weight, module.unembed.weight)


@pytest.mark.parametrize("name", PUBLIC)
def test_we_load_what_transformers_saves(name: str, tmp_path: Path) -> None:
    save_bundle(tmp_path / "ours", make(name))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    module, tokenizer, generation = open_bundle(tmp_path / "theirs")
    assert tokenizer is None and isinstance(generation, dict) and not module.training
    check_equal(module, theirs)


def test_we_load_gpt2_as_it_was_published(tmp_path: Path) -> None:
    """Saved without the output: no prefix, and masks among the weights."""
    save_bundle(tmp_path / "ours", make("gpt2"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    theirs.transformer.save_pretrained(tmp_path / "theirs")
    file = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(file)
    assert "h.1.attn.c_attn.weight" in tensors
    mask = torch.ones(1, 1, 48, 48).tril()
    buffers = {f"h.{i}.attn.{name}": mask for i in range(2) for name in ("bias", "masked_bias")}
    save_file(tensors | {name: mask.clone() for name, mask in buffers.items()}, file)
    check_equal(open_bundle(tmp_path / "theirs")[0], theirs)


def test_an_untied_output_that_was_not_saved_is_missed(tmp_path: Path) -> None:
    save_bundle(tmp_path / "ours", make("llama"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    theirs.model.save_pretrained(tmp_path / "theirs")
    refused(tmp_path / "theirs", "1 tensors are missing from the weights, first lm_head.weight")


def test_what_was_saved_comes_back(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_bundle(tmp_path / "a", make("gpt2"), tokenizer, card="# Card\n", generation={"temperature": 0.7})
    module, again, generation = open_bundle(tmp_path / "a", dtype="bfloat16")
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    assert again is not None and again.fingerprint == tokenizer.fingerprint
    assert generation == {"eos_token_id": tokenizer.eos_id, "temperature": 0.7}
    assert (tmp_path / "a" / "README.md").read_text() == "# Card\n"
    assert not list(tmp_path.glob("a.*"))


def test_rotary_angles_stay_exact_in_bfloat16(tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", make("llama"))
    exact, rounded = (open_bundle(tmp_path / "bundle", dtype=d)[0] for d in ("float32", "bfloat16"))
    assert torch.equal(exact.decoder.frequencies, rounded.decoder.frequencies)


# ---- bad input


def test_an_unknown_dtype_or_device_is_refused(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"dtype 'float31' is unknown; did you mean 'float32'\?"):
        open_bundle(bundle, dtype="float31")
    with pytest.raises(ConfigError, match="device='gpu' is not a device of torch; allowed: auto, cpu"):
        open_bundle(bundle, device="gpu")


def test_what_is_missing_is_named(bundle: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere is not a folder; give a bundle: a folder with config.json and")
    refused(bundle / "config.json", r"config\.json is not a folder")
    (bundle / "model.safetensors").unlink()
    refused(bundle, r"bundle has no model\.safetensors")
    (bundle / "config.json").unlink()
    refused(bundle, r"bundle has no config\.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "config.json is not JSON"),
        (b"{", "config.json is not JSON"),
        (b"\xff\xfe{}", "config.json is not JSON"),
        (b"[" * 100_000, "config.json is not JSON"),
        (b"[1]", "config.json contains a list, not an object"),
        (b"{}", "has the model_type 'None', an unknown family; allowed: bart, bert, bloom, "),
        (b'{"model_type": "gtp2"}', "model_type 'gtp2', an unknown family; did you mean 'gpt2'?"),
        (b'{"model_type": ["gpt2"]}', "an unknown family"),
        (b'{"model_type": "gpt2"}', "config.json lacks 'vocab_size', which the family gpt2 needs"),
        (b'{"model_type": "llama"}', "config.json lacks 'vocab_size', which the family llama needs"),
        (b'{"model_type": "seedbed_lstm", "cell": "lstm"}', "lacks vocab_size, d_model, num_layers;"),
        (b'{"model_type": "seedbed_seedling", "shape": "decoder"}', "lacks vocab_size, d_model, "),
        (
            b'{"model_type": "seedbed_seedling", "shape": "decoder", "vocab_size": 9, "d_model": 8, '
            b'"num_layers": 1, "num_heads": 1, "d_ff": 8, "position": {"base": 1}}',
            "does not describe a ModelConfig",
        ),
    ],
)
def test_a_config_that_is_none_is_refused(bundle: Path, content: bytes, message: str) -> None:
    (bundle / "config.json").write_bytes(content)
    refused(bundle, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": "300"}, "vocab_size='300' is not allowed; allowed: a whole number"),
        ({"n_embd": 64.0}, "d_model=64.0 is not allowed"),
        ({"n_inner": None, "n_embd": {}}, r"d_model=\{\} is not allowed; allowed: a whole number"),
        ({"n_layer": True}, "num_layers=True is not allowed"),
        ({"n_head": 5}, "d_model=64 cannot be split into num_heads=5"),
        ({"n_head": 0}, "num_heads=0 must be at least 1"),
        ({"layer_norm_epsilon": "tiny"}, "norm_eps='tiny' is not allowed; allowed: a finite number"),
        ({"activation_function": "swish"}, "activation_function='swish', which .*; allowed: "),
        ({"activation_function": ["gelu"]}, "does not describe a gpt2"),
        ({"attn_pdrop": 2}, r"dropout=2 is not allowed: give a number of 0"),
        ({"n_positions": -1}, "max_positions=-1 must be at least 1"),
        # A config that does not fit in memory is refused before memory is allocated.
        ({"n_layer": 10**9}, "needs 1000000000 layers, but the weights have 28 tensors"),
        ({"vocab_size": 10**12}, "needs 64000000103168 parameters, but the weights have "),
        ({"n_embd": 2**40}, "parameters, but the weights have "),
        # One that differs by little contradicts the weights.
        ({"n_layer": 3}, "12 tensors are missing from the weights, first transformer.h.2.ln_1.weight"),
        ({"n_layer": 1}, "have 12 tensors that this config has no place for|has no decoder.blocks.1"),
        ({"vocab_size": 301}, r"wte.weight has the shape \(300, 64\), but the config needs \(301, 64\)"),
        ({"n_inner": 255}, r"c_fc.weight has the shape \(64, 256\), but the config needs \(64, 255\)"),
        ({"model_type": "llama"}, "config.json lacks 'hidden_size'"),
        ({"tie_word_embeddings": False}, "1 tensors are missing from the weights, first lm_head.weight"),
        ({"tie_word_embeddings": "no"}, "tie_embeddings='no' is not allowed; allowed: true or false"),
    ],
)
def test_a_config_that_contradicts_is_refused(bundle: Path, changes: dict[str, Any], message: str) -> None:
    change_config(bundle, **changes)
    refused(bundle, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            "rotary scaling 'yarn' of config.json",
        ),
        ({"rope_scaling": {"rope_type": "linear"}}, "config.json lacks 'factor'"),
        ({"rope_scaling": "linear"}, "does not describe a llama"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor='2' is not allowed"),
        ({"hidden_act": "gelu"}, "has hidden_act='gelu', but .*; allowed: hidden_act='silu'"),
        ({"attention_bias": True, "mlp_bias": True}, "attention_bias=True, mlp_bias=True, but"),
        ({"num_key_value_heads": 3}, "num_heads=4 is not a multiple of num_kv_heads=3"),
        ({"rope_parameters": None, "rope_theta": "x"}, "rotary_base='x' is not allowed; allowed: a finite"),
    ],
)
def test_a_llama_that_is_none_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bundle = save_bundle(tmp_path / "bundle", make("llama"))
    change_config(bundle, **changes)
    refused(bundle, message)


def test_truncated_weights_are_refused_at_every_length(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    lengths = {0, 1, 7, 8, 9, header - 1, header, header + 1, len(content) // 2, len(content) - 1}
    for length in sorted(lengths | set(range(16, len(content), len(content) // 40))):
        file.write_bytes(content[:length])
        refused(bundle, r"model\.safetensors cannot be read: .*; it is truncated or damaged")
    file.write_bytes(content + b"\0")
    refused(bundle, "truncated or damaged")
    file.write_bytes(b"\xff" * 8 + content[8:])
    refused(bundle, "truncated or damaged")
    file.write_bytes(content)
    open_bundle(bundle)


def test_weights_that_do_not_fit_are_named(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"transformer.h.9.extra": torch.ones(1)}, file)
    refused(bundle, r"model\.safetensors: .* 1 tensors that this config has no place for, first .*h\.9")
    lacking = "transformer.h.1.mlp.c_fc.bias"
    save_file({name: tensor for name, tensor in tensors.items() if name != lacking}, file)
    refused(bundle, f"1 tensors are missing from the weights, first {lacking}")


def test_a_tied_output_may_be_in_the_file_if_it_is_the_embedding(bundle: Path) -> None:
    file = bundle / "model.safetensors"
    tensors = load_file(file)
    output = tensors["transformer.wte.weight"].clone()
    save_file(tensors | {"lm_head.weight": output}, file)
    open_bundle(bundle)
    open_bundle(bundle, dtype="bfloat16")
    save_file(tensors | {"lm_head.weight": output + 1e-3}, file)
    refused(
        bundle,
        r"lm_head\.weight differs from transformer\.wte\.weight.*config\.json.*; .*\w",
    )


def test_a_tokenizer_beyond_the_vocabulary_is_refused(
    bundle: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    small = make("gpt2", vocab_size=tokenizer.vocab_size - 1)
    message = r"tokenizer has {} tokens, .*network has {}; use the tokenizer"
    expected = message.format(tokenizer.vocab_size, tokenizer.vocab_size - 1)
    with pytest.raises(BundleError, match=expected):
        save_bundle(tmp_path / "small", small, tokenizer)
    assert not (tmp_path / "small").exists()
    save_bundle(tmp_path / "small", small)
    shutil.copy(bundle / "tokenizer.json", tmp_path / "small")
    refused(tmp_path / "small", expected)
    (bundle / "tokenizer.json").write_text('{"version": "1.0"}')
    refused(bundle, r"tokenizer\.json cannot be used: ")


def test_a_folder_that_is_not_a_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    with pytest.raises(BundleError, match=r"thesis contains chapter\.tex, which is not part of a bundle"):
        save_bundle(tmp_path / "thesis", make("gpt2"))
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years"
    with pytest.raises(BundleError, match=re.escape("chapter.tex is a file, but a bundle is a folder")):
        save_bundle(tmp_path / "thesis" / "chapter.tex", make("gpt2"))
    with pytest.raises(HardwareError, match=r"cannot write .*: .*chapter\.tex is a file, not a folder"):
        save_bundle(tmp_path / "thesis" / "chapter.tex" / "model", make("gpt2"))
    with pytest.raises(BundleError, match="a bundle cannot replace /"):
        save_bundle("/", make("gpt2"))
