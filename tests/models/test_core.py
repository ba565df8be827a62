"""The core beyond the families in the room: mechanisms of BLOOM, PaLM, BERT, T5, BART, the 2017 Transformer.

Each is compared with transformers on tiny random weights, through a config and a minimal list of rules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from seedbed.models.network import build
from seedbed.models.weights import Rule, export_weights, import_weights
from seedbed.nn.config import EncoderConfig, HeadConfig, ModelConfig, PositionConfig
from seedbed.nn.layout import Layout
from seedbed.nn.linear import named_parts

TOLERANCE = 2e-4
SHAPE: dict[str, Any] = {"vocab_size": 101, "d_model": 64, "num_layers": 3, "num_heads": 4, "d_ff": 96}
LIKE_BERT = {
    "vocab_size": 101,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
LIKE_T5 = {"vocab_size": 101, "d_model": 64, "d_kv": 8, "d_ff": 96, "num_layers": 3, "num_heads": 4}
LIKE_BART = {
    "vocab_size": 101,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 60,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A published class, its config, ours, and our names for its tensors."""

    theirs: type[nn.Module]
    their_config: Any
    ours: dict[str, Any]
    rules: Mapping[str | tuple[str, ...], str]
    ignored: tuple[str, ...] = ("lm_head.weight",)  # the tied table again
    std: float = 0.3


def stacks(ours: str, theirs: str, prefix: str = "") -> dict[str | tuple[str, ...], str]:
    """One rule for the encoder and one for the decoder."""
    return {f"{stack}.{ours}": f"{prefix}{stack}.{theirs}" for stack in ("encoder", "decoder")}


def qkv(block: str) -> tuple[str, ...]:
    return tuple(f"{block}.attn.{part}" for part in "qkv")


def bloom() -> Case:
    ours, theirs = "decoder.blocks.{i}", "transformer.h.{i}"
    return Case(
        theirs=transformers.BloomForCausalLM,
        their_config=transformers.BloomConfig(vocab_size=101, hidden_size=64, n_layer=3, n_head=4),
        ours={
            "shape": "decoder",
            "d_ff": 256,
            "position": PositionConfig(kind="alibi"),
            "embedding_norm": True,
        },
        rules={
            "embed": "transformer.word_embeddings",
            "decoder.embed_norm": "transformer.word_embeddings_layernorm",
            "decoder.final_norm": "transformer.ln_f",
            f"{ours}.attn_norm": f"{theirs}.input_layernorm",
            qkv(ours): f"{theirs}.self_attention.query_key_value",
            f"{ours}.attn.out": f"{theirs}.self_attention.dense",
            f"{ours}.ffn_norm": f"{theirs}.post_attention_layernorm",
            f"{ours}.ffn.up": f"{theirs}.mlp.dense_h_to_4h",
            f"{ours}.ffn.down": f"{theirs}.mlp.dense_4h_to_h",
        },
    )


def palm() -> Case:
    """Cohere's block is PaLM's: parallel residual, multi-query, rotary positions in neighbouring pairs."""
    ours, theirs = "decoder.blocks.{i}", "model.layers.{i}"
    names = {"q": "q", "k": "k", "v": "v", "out": "o"}
    attn = {f"{ours}.attn.{a}": f"{theirs}.self_attn.{b}_proj" for a, b in names.items()}
    ffn = {f"{ours}.ffn.{part}": f"{theirs}.mlp.{part}_proj" for part in ("gate", "up", "down")}
    return Case(
        theirs=transformers.CohereForCausalLM,
        their_config=transformers.CohereConfig(
            **LIKE_BERT,
            num_key_value_heads=1,
            logit_scale=0.5,
            rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        ),
        ours={
            "shape": "decoder",
            "num_kv_heads": 1,
            "position": PositionConfig(kind="rotary", rotary_base=100.0, rotary_interleaved=True),
            "norm": "layer_no_bias",
            "residual": "parallel",
            "activation": "silu",
            "gated_ffn": True,
            "bias": "none",
            "output_scale": 0.5,
        },
        rules={
            "embed": "model.embed_tokens",
            "decoder.final_norm": "model.norm",
            f"{ours}.attn_norm": f"{theirs}.input_layernorm",
            **attn,
            **ffn,
        },
    )


def bert() -> Case:
    ours, theirs, first = "encoder.blocks.{i}", "bert.encoder.layer.{i}", "bert.embeddings"
    return Case(
        theirs=transformers.BertForMaskedLM,
        their_config=transformers.BertConfig(**LIKE_BERT, max_position_embeddings=60),
        ours={
            "shape": "encoder",
            "max_positions": 60,
            "segment_types": 2,
            "norm_eps": 1e-12,
            "residual": "post",
            "activation": "gelu",
            "embedding_norm": True,
            "head": HeadConfig(kind="mlm"),
        },
        rules={
            "embed": f"{first}.word_embeddings",
            "encoder.position": f"{first}.position_embeddings",
            "encoder.segment": f"{first}.token_type_embeddings",
            "encoder.embed_norm": f"{first}.LayerNorm",
            f"{ours}.attn.q": f"{theirs}.attention.self.query",
            f"{ours}.attn.k": f"{theirs}.attention.self.key",
            f"{ours}.attn.v": f"{theirs}.attention.self.value",
            f"{ours}.attn.out": f"{theirs}.attention.output.dense",
            f"{ours}.attn_norm": f"{theirs}.attention.output.LayerNorm",
            f"{ours}.ffn.up": f"{theirs}.intermediate.dense",
            f"{ours}.ffn.down": f"{theirs}.output.dense",
            f"{ours}.ffn_norm": f"{theirs}.output.LayerNorm",
            "transform.dense": "cls.predictions.transform.dense",
            "transform.norm": "cls.predictions.transform.LayerNorm",
            "output_bias": "cls.predictions.bias",
        },
        ignored=("cls.predictions.decoder.weight", "cls.predictions.decoder.bias"),
    )


def t5(*, flan: bool) -> Case:
    """`flan` is T5 1.1: a gated feed-forward, an output apart and unscaled."""
    rules = {"embed": "shared", "decoder.blocks.{i}.cross_norm": "decoder.block.{i}.layer.1.layer_norm"}
    rules |= stacks("buckets", "block.0.layer.0.SelfAttention.relative_attention_bias")
    rules |= stacks("final_norm", "final_layer_norm")
    rules |= stacks("blocks.{i}.attn_norm", "block.{i}.layer.0.layer_norm")
    for ours, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "o")):
        rules |= stacks(f"blocks.{{i}}.attn.{ours}", f"block.{{i}}.layer.0.SelfAttention.{theirs}")
        rules[f"decoder.blocks.{{i}}.cross.{ours}"] = f"decoder.block.{{i}}.layer.1.EncDecAttention.{theirs}"
    names = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if flan else {"up": "wi", "down": "wo"}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        theirs = f"{stack}.block.{{i}}.layer.{last}"
        rules[f"{stack}.blocks.{{i}}.ffn_norm"] = f"{theirs}.layer_norm"
        rules |= {f"{stack}.blocks.{{i}}.ffn.{a}": f"{theirs}.DenseReluDense.{b}" for a, b in names.items()}
    special = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if flan else {}
    return Case(
        theirs=transformers.T5ForConditionalGeneration,
        # At a distance of 32 buckets end, so that rows of 23 tokens reach those that are not exact.
        their_config=transformers.T5Config(**LIKE_T5, **special, relative_attention_num_buckets=16),
        ours={
            "shape": "encoder-decoder",
            "head_dim": 8,
            "position": PositionConfig(kind="buckets", num_buckets=16),
            "norm": "rms",
            "norm_eps": 1e-6,
            "activation": "gelu_tanh" if flan else "relu",
            "gated_ffn": flan,
            "bias": "none",
            "attention_scale": 1.0,
            "output_scale": 1.0 if flan else 64**-0.5,
            "tie_embeddings": not flan,
        },
        rules=rules | ({"unembed": "lm_head"} if flan else {}),
        ignored=("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
        + (() if flan else ("lm_head.weight",)),
        std=0.15,  # scores are not scaled: at 0.3 T5's own float32 is 4e-5 to 7e-4 away from its float64
    )


def bart(*, marian: bool) -> Case:
    """Marian is the Transformer of 2017: sinusoids, scaled embeddings."""
    rules = {"embed": "model.shared"}
    if not marian:
        rules |= stacks("position", "embed_positions", "model.")
        rules |= stacks("embed_norm", "layernorm_embedding", "model.")
    for ours, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "out")):
        rules |= stacks(f"blocks.{{i}}.attn.{ours}", f"layers.{{i}}.self_attn.{theirs}_proj", "model.")
        rules[f"decoder.blocks.{{i}}.cross.{ours}"] = f"model.decoder.layers.{{i}}.encoder_attn.{theirs}_proj"
    rules["decoder.blocks.{i}.cross_norm"] = "model.decoder.layers.{i}.encoder_attn_layer_norm"
    rules |= stacks("blocks.{i}.attn_norm", "layers.{i}.self_attn_layer_norm", "model.")
    rules |= stacks("blocks.{i}.ffn.up", "layers.{i}.fc1", "model.")
    rules |= stacks("blocks.{i}.ffn.down", "layers.{i}.fc2", "model.")
    rules |= stacks("blocks.{i}.ffn_norm", "layers.{i}.final_layer_norm", "model.")
    special: dict[str, Any] = {}
    if marian:
        special = {"scale_embedding": True, "activation_function": "relu", "decoder_start_token_id": 0}
    tied = ("lm_head.weight", *(f"model.{stack}.embed_tokens.weight" for stack in ("encoder", "decoder")))
    fixed = tuple(f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder"))
    return Case(
        theirs=transformers.MarianMTModel if marian else transformers.BartForConditionalGeneration,
        their_config=(transformers.MarianConfig if marian else transformers.BartConfig)(
            **LIKE_BART, **special, pad_token_id=0
        ),
        ours={
            "shape": "encoder-decoder",
            "encoder": EncoderConfig(num_layers=2, num_heads=2, d_ff=80),
            "max_positions": 60,
            "position": PositionConfig(kind="sinusoidal") if marian else PositionConfig(offset=2),
            "residual": "post",
            "activation": "relu" if marian else "gelu",
            "embedding_norm": not marian,
            "embedding_scale": 8.0 if marian else 1.0,
        },
        rules=rules,
        ignored=(*tied, "final_logits_bias", *(fixed if marian else ())),
    )


CASES = {
    "bloom": bloom(),
    "palm": palm(),
    "bert": bert(),
    "t5": t5(flan=False),
    "flan-t5": t5(flan=True),
    "bart": bart(marian=False),
    "marian": bart(marian=True),
}


def make_pair(case: Case, fill_randomly: Callable[..., None]) -> tuple[Any, Any]:
    """The reference with random weights, and our network with the same."""
    oracle: Any = case.theirs(case.their_config).eval()
    fill_randomly(oracle, std=case.std)
    if isinstance(oracle, transformers.MarianMTModel):  # its positions are parameters that never change
        for stack in (oracle.model.encoder, oracle.model.decoder):
            stack.embed_positions.weight.data.copy_(stack.embed_positions.create_weight())
    if isinstance(oracle, transformers.T5ForConditionalGeneration):
        oracle.shared.weight.data *= 8  # a tied output is scaled down
    oracle.tie_weights()
    module: Any = build(ModelConfig(family="bert", **SHAPE | case.ours)).eval()
    theirs = {name: w for name, w in oracle.state_dict().items() if name not in case.ignored}
    rules = [
        Rule(ours, name, "per_head" if "query_key_value" in name else "same")
        for ours, name in case.rules.items()
    ]
    shape = {"num_layers": 3, "num_heads": 4}
    parts = dict(named_parts(module))
    with torch.no_grad():
        for part in parts.values():
            part.fill_(torch.nan)
        import_weights(theirs, parts, rules, **shape)
    again = export_weights(parts, rules, **shape)
    assert set(again) == set(theirs) and all(torch.equal(again[name], theirs[name]) for name in theirs)
    return oracle, module


@pytest.fixture(scope="module", params=CASES)
def trial(request: pytest.FixtureRequest, make_trial: Any, fill_randomly: Callable[..., None]) -> Any:
    oracle, module = make_pair(CASES[request.param], fill_randomly)

    def logits(ids: Tensor, source: Tensor | None) -> Tensor:
        if source is None:
            return oracle(input_ids=ids[None]).logits[0]
        return oracle(input_ids=source[None], decoder_input_ids=ids[None]).logits[0]

    return make_trial(module, logits)


def test_logits_equal_the_reference(trial: Any) -> None:
    trial.check_forward(TOLERANCE)


def test_decoding_equals_the_reference(trial: Any) -> None:
    """An encoder decodes nothing; the others are driven in chunks and their rows moved."""
    if trial.module.decoder is not None:
        trial.check_decoding(TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_packed_gradients_equal_the_sum_of_the_documents(
    name: str, make_trial: Any, fill_randomly: Callable[..., None]
) -> None:
    oracle, module = make_pair(replace(CASES[name], std=0.15), fill_randomly)
    make_trial(module, oracle).check_packed_gradients()


def test_segments_equal_the_reference(fill_randomly: Callable[..., None]) -> None:
    oracle, module = make_pair(CASES["bert"], fill_randomly)
    ids, segments = torch.arange(12), torch.tensor([0] * 5 + [1] * 7)
    with torch.no_grad():
        expected = oracle(input_ids=ids[None], token_type_ids=segments[None]).logits[0]
        found = module.output(module(ids, Layout.of([12]), segments=segments))
    assert (found - expected).abs().max() <= TOLERANCE


def test_beams_read_one_source(trial: Any) -> None:
    """Rows over one source share its keys: copying a row copies none of them."""
    if trial.module.config.shape != "encoder-decoder":
        return
    with torch.no_grad():
        state = trial.start([0], 12)
        before = state.memory.kv
        trial.advance(state, [trial.rows[0]], [4])
        state.select([0, 0, 0])
        assert state.memory.kv is before and state.memory.slots == [0, 0, 0]
        rows = [trial.rows[0], torch.cat([trial.rows[0][:4], trial.rows[1][4:]]), trial.rows[0]]
        found = trial.advance(state, rows, [3, 2, 0])
        expected = trial.expected([row[:7] for row in rows[:2]], [trial.sources[0]] * 2)
    assert (found[0] - expected[0][4:]).abs().max() <= TOLERANCE
    assert (found[1] - expected[1][4:6]).abs().max() <= TOLERANCE
