"""GGUF files: the weights, the tokenizer and the config that they hold, compared with who wrote them."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers import Regex, models, pre_tokenizers, trainers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.tokenization_utils_base import generate_merges

import seedbed
from seedbed.api.tokenizers import inspect
from seedbed.base.errors import BundleError
from seedbed.hub.bundle import open_bundle, read_bundle
from seedbed.hub.gguf_file import open_gguf_file
from seedbed.models.network import build, import_tensors
from seedbed.nn.config import RotaryScaling
from seedbed.nn.layout import Layout
from seedbed.text.tokenizer import byte_symbols

TEXT = (
    "In 2026, 1,234,567 people'll say it's 3.14 — don't THEY'RE?  \n\n\t  x1=22;\r\n  Ünïcödé 東京 2½ ²\u0301"
    "  \n 007   99 🙂 <|end|> def f(x):\n        return x**2 # 100%\n"
)
QUANTIZATIONS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]


@torch.no_grad()
def logits(module: Any) -> torch.Tensor:
    ids = torch.randint(40, (30,), generator=torch.Generator().manual_seed(1))
    return module.output(module(ids, Layout.of([len(ids)])))


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("tied", [False, True])
def test_the_logits_are_those_of_the_weights(
    tiny: Any, write_gguf: Any, quantization: str, tied: bool
) -> None:
    module = tiny.make_llama(40, tied=tied)
    path, weights = write_gguf(module, quantization)
    found, tokenizer, generation = open_bundle(path)
    assert tokenizer is None and generation == {} and not found.training
    same = build(module.config).eval()
    with torch.no_grad():
        import_tensors(same, weights)
    assert found.config.norm_eps == pytest.approx(module.config.norm_eps)
    assert logits(found).abs().max() > 3
    assert (logits(found) - logits(same)).abs().max() <= 1e-4
    assert (quantization == "F32") == torch.equal(logits(same), logits(module))


@pytest.mark.parametrize("quantization", ["F32", "Q8_0"])
@pytest.mark.parametrize(("name", "head_dim"), [("qwen2", None), ("qwen3", 32), ("gemma", 32)])
def test_families_of_llamas_block_have_the_logits_of_their_weights(
    tiny: Any, write_gguf: Any, name: str, head_dim: int | None, quantization: str
) -> None:
    module = tiny.make_model(name, 40, head_dim=head_dim)
    path, weights = write_gguf(module, quantization)
    found = open_bundle(path)[0]
    assert found.config.family == name and found.config.d_head == (head_dim or 16)
    same = build(module.config).eval()
    with torch.no_grad():
        import_tensors(same, weights)
    assert logits(found).abs().max() > 3
    assert (logits(found) - logits(same)).abs().max() <= 1e-4
    assert (logits(same) - logits(module)).abs().max() < (1e-6 if quantization == "F32" else 2)


@pytest.mark.parametrize(("name", "head_dim"), [("llama", None), ("qwen2", None), ("qwen3", 128)])
def test_transformers_reads_the_same(tiny: Any, write_gguf: Any, name: str, head_dim: int | None) -> None:
    module = tiny.make_model(
        name, 40, head_dim=head_dim
    )  # transformers uses 128 for Qwen3's, whatever the file says
    path, _ = write_gguf(module, "Q8_0", values=tiny.metadata(module) | {f"{name}.vocab_size": 40})
    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    # What `from_pretrained(gguf_file=...)` does, which wants one more package.
    read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=theirs)["tensors"]
    theirs.load_state_dict(read)
    ids = torch.randint(40, (30,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.eval()(ids[None]).logits[0]
    assert (logits(open_bundle(path)[0]) - expected).abs().max() <= 2e-4


def test_a_tensor_larger_than_what_is_expanded_at_once_is_whole(tiny: Any, write_gguf: Any) -> None:
    module = tiny.make_llama(5000)
    path, weights = write_gguf(module, "Q4_1")
    with open_gguf_file(path) as file:
        assert torch.equal(file.read("token_embd.weight"), weights["model.embed_tokens.weight"])


def test_dtype_and_config_are_honoured(tiny: Any, write_gguf: Any) -> None:
    path, _ = write_gguf(tiny.make_llama(40))
    lm = seedbed.load(path, dtype="bfloat16")
    assert {p.dtype for p in lm.module.parameters()} == {torch.bfloat16}
    assert read_bundle(path)[0] == lm.config
    changes = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    path, _ = write_gguf(tiny.make_llama(40), values=tiny.metadata(tiny.make_llama(40), **changes))
    assert read_bundle(path)[0].position.scaling == RotaryScaling(kind="linear", factor=2.0)


@pytest.mark.parametrize("factor", [1.0, 8.0, 32.0])
def test_the_factors_of_llama3_become_its_scaling(tiny: Any, write_gguf: Any, factor: float) -> None:
    module = tiny.make_llama(40)
    rope = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 8192, "rope_theta": 500_000.0}
    theirs = transformers.LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=131_072, rope_parameters=rope
    )
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](theirs, "cpu")
    plain = 500_000.0 ** -(torch.arange(0, 16, 2) / 16)
    values = tiny.metadata(module, **{"llama.rope.freq_base": 500_000.0})
    path, _ = write_gguf(module, values=values, extra={"rope_freqs.weight": (plain / frequencies).numpy()})
    found, _, _ = open_bundle(path)
    assert torch.allclose(found.decoder.frequencies, frequencies, rtol=1e-5)
    expected = RotaryScaling(kind="llama3", factor=factor) if factor > 1 else None
    assert found.config.position.scaling == expected
    odd = np.linspace(1, 9, 8, dtype=np.float32)
    path, _ = write_gguf(module, name="odd.gguf", values=values, extra={"rope_freqs.weight": odd})
    with pytest.raises(BundleError, match=r"rope_freqs\.weight scales positions in an unknown way"):
        open_bundle(path)


# ---- the tokenizer

# The cuts as the published tokenizer.json files spell them.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
PUBLISHED = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), BYTES],
    "qwen2": [pre_tokenizers.Split(Regex(QWEN2), "isolated"), BYTES],
}


def trained(pre: str, vocab_size: int = 400) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(PUBLISHED[pre])
    if pre == "qwen2":
        core.normalizer = tokenizers.normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        special_tokens=["<|begin|>", "<|end|>"],
        show_progress=False,
    )
    core.train_from_iterator([TEXT, Path(__file__).read_text()], trainer)
    return core


@pytest.mark.parametrize("pre", PUBLISHED)
def test_the_tokens_are_those_of_the_published_tokenizer(tiny: Any, write_gguf: Any, pre: str) -> None:
    core = trained(pre)
    module = tiny.make_llama(core.get_vocab_size())
    path, _ = write_gguf(module, values=tiny.metadata(module) | tiny.tokenizer_metadata(core, pre))
    lm = seedbed.load(path)
    core.encode_special_tokens = True
    for text in (TEXT, Path(__file__).read_text(), " ", "", "a  1 22 333 4444   55555\n\n\n 6"):
        assert lm.tokenizer.encode(text) == core.encode(text, add_special_tokens=False).ids
        assert pre == "qwen2" or lm.tokenizer.decode(lm.tokenizer.encode(text)) == text
    assert (lm.tokenizer.bos_id, lm.tokenizer.eos_id, lm.eos_ids) == (0, 1, (1,))
    assert [piece.token for piece in inspect(path, "<|end|>")] != ["<|end|>"]


def test_the_default_pre_tokenizer_cuts_digits_by_three(tiny: Any, write_gguf: Any) -> None:
    core = trained("gpt-2")
    module = tiny.make_llama(core.get_vocab_size())
    values = tiny.metadata(module) | tiny.tokenizer_metadata(core, "x") | {"tokenizer.ggml.pre": "default"}
    path, _ = write_gguf(module, values=values)
    tokenizer = open_bundle(path)[1]
    cuts = tokenizer._core.pre_tokenizer.pre_tokenize_str("a 12345, b?!")
    assert [piece for piece, _ in cuts] == ["a", "Ġ", "123", "45", ",", "Ġb", "?!"]


@pytest.mark.parametrize("prefix", [True, False])
def test_tokens_with_scores_are_those_of_llama2(tiny: Any, write_gguf: Any, prefix: bool) -> None:
    control = ["<unk>", "<s>", "</s>"]
    core = tokenizers.Tokenizer(models.BPE())
    core.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[*control, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    core.train_from_iterator((line[:60] for line in Path(__file__).read_text().splitlines()), trainer)
    vocabulary = core.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    scores = [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)]
    values = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": prefix,
    }
    module = tiny.make_llama(len(tokens))
    path, _ = write_gguf(module, values=tiny.metadata(module) | values)
    tokenizer = open_bundle(path)[1]
    merges = generate_merges(vocabulary, dict(zip(tokens, scores, strict=True)), control)
    published = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    begin = [tokenizers.normalizers.Prepend("\u2581")] if prefix else []
    published.normalizer = tokenizers.normalizers.Sequence(
        [*begin, tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    for text in (TEXT, Path(__file__).read_text(), "  two", "</s><unk>"):
        assert tokenizer.encode(text) == published.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (1, 2, 0)
    for changes in (
        {"tokenizer.ggml.scores": scores[1:]},
        {"tokenizer.ggml.scores": [float("nan")] * len(tokens)},
    ):
        path, _ = write_gguf(module, values=tiny.metadata(module) | values | changes)
        with pytest.raises(BundleError, match=r"tokens, but .* scores|numbers that are not finite as"):
            open_bundle(path)


def test_added_tokens_are_text_or_control_as_their_types_say(tiny: Any, write_gguf: Any) -> None:
    core = trained("gpt-2")
    core.add_tokens(["<think>", "東 京", "<pad>", "\U0001f999"])
    module = tiny.make_llama(core.get_vocab_size())
    values = tiny.tokenizer_metadata(core, "gpt-2")
    values["tokenizer.ggml.token_type"][-4:] = [4, 4, 3, 1]
    path, _ = write_gguf(module, values=tiny.metadata(module) | values)
    lm = seedbed.load(path)
    first = core.token_to_id("<think>")
    assert lm.tokenizer.encode("<think>東 京") == [first, first + 1]
    assert first + 2 not in lm.tokenizer.encode("<pad>")
    # A normal token that byte symbols cannot spell: its letter comes as four bytes.
    found = lm.tokenizer.encode("\U0001f999")
    assert found == [core.token_to_id(byte_symbols()[byte]) for byte in "\U0001f999".encode()]
    assert lm.tokenizer.decode(found) == "\U0001f999"
    assert lm.tokenizer.decode([first, first + 1, first + 2]) == "<think>東 京"
    assert "".join(lm.stream([first, 5], 5, temperature=0)) == lm.generate([first, 5], 5, temperature=0).text


def test_a_file_becomes_a_bundle_that_transformers_loads(tiny: Any, write_gguf: Any, tmp_path: Path) -> None:
    core = trained("llama-bpe")
    module = tiny.make_llama(core.get_vocab_size())
    changes = {"tokenizer.ggml.eot_token_id": 0, "tokenizer.ggml.add_bos_token": True}
    path, _ = write_gguf(
        module, "Q4_0", values=tiny.metadata(module) | tiny.tokenizer_metadata(core, "llama-bpe", **changes)
    )
    lm = seedbed.load(path)
    assert lm.eos_ids == (1, 0)
    bundle = lm.save(tmp_path / "bundle")
    load = transformers.AutoModelForCausalLM.from_pretrained
    theirs, report = load(tmp_path / "bundle", output_loading_info=True)
    assert not any(report.values()), report
    ids = torch.arange(30)
    with torch.no_grad():
        assert (theirs.eval()(ids[None]).logits - lm.logits(ids[None])).abs().max() <= 2e-4
    assert theirs.generation_config.eos_token_id == [1, 0]
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bundle")
    assert their_tokenizer("In 1234").input_ids == [0, *lm.tokenizer.encode("In 1234")]
    assert their_tokenizer.chat_template == "{{ messages[0]['content'] }}"
    assert seedbed.load(tmp_path / "bundle").eos_ids == (1, 0), bundle


def test_every_quantization_that_the_package_expands_is_read_alike(tmp_path: Path) -> None:
    """Blocks of random bytes, scales included, expand as in the gguf package."""
    random, read = np.random.default_rng(0), set()
    for kind, (block_values, block_bytes) in gguf.GGML_QUANT_SIZES.items():
        raw = random.integers(0, 64, (3, 5 * block_bytes), dtype=np.uint8)
        try:
            expected = gguf.quants.dequantize(raw, kind)
        except NotImplementedError:
            continue
        writer = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
        writer.add_tensor("w", raw, raw_shape=raw.shape, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with open_gguf_file(tmp_path / "one.gguf") as file:
            found = file.read("w")
        assert found.shape == (3, 5 * block_values), kind
        assert np.array_equal(found.numpy(), expected), kind
        read.add(kind.name)
    # What an unknown quantization's message names; the package itself expands no Q8_K, Q8_1 and the like.
    assert read >= {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}
    assert read >= {f"Q{bits}_K" for bits in range(2, 7)}
