"""The fast path of a decoding step: taken where it applies, equal to the modules, rebuilt after a change."""

from collections.abc import Callable
from dataclasses import fields
from dataclasses import replace as changed
from typing import Any

import pytest
import torch
from tests.nn.variants import variants
from torch import Tensor, nn

from seedbed.models.network import FAMILIES, family
from seedbed.models.transformer import Transformer
from seedbed.nn.block import Block
from seedbed.nn.config import PARALLEL, POST, PRE, AttentionConfig, ModelConfig, PositionConfig
from seedbed.nn.layout import Layout
from seedbed.nn.linear import replace
from seedbed.nn.matmul import one_token_call

ROTARY = PositionConfig(kind="rotary")
FAST: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "opt": {"activation": "relu", "bias": "all"},
    "llama": {"position": ROTARY, "norm": "rms", "num_kv_heads": 2, "gated_ffn": True, "bias": "none"},
    "qwen2": {"position": ROTARY, "norm": "rms", "gated_ffn": True, "bias": "qkv", "activation": "silu"},
    "qwen3": {"position": ROTARY, "norm": "rms", "num_kv_heads": 2, "qk_norm": "rms", "bias": "none"},
    "gemma": {"position": ROTARY, "norm": "rms_offset", "gated_ffn": True, "bias": "none"},
    "seedling": {"position": ROTARY, "norm": "layer_plain", "qk_norm": "plain", "scale": 0.5},
    "normed queries": {"norm": "rms_plain", "qk_norm": "plain", "activation": "relu_squared"},
    "interleaved": {"position": PositionConfig(kind="rotary", rotary_interleaved=True), "activation": "gelu"},
    "sinusoidal": {"position": PositionConfig(kind="sinusoidal"), "norm": "layer_no_bias"},
    "wide window": {"position": ROTARY, "window": 64, "head_dim": 6},
}
MODULES: dict[str, dict[str, Any]] = {
    "alibi": {"position": PositionConfig(kind="alibi")},
    "buckets": {"position": PositionConfig(kind="buckets")},
    "window": {"position": ROTARY, "window": 4},
    "parallel": {"residual": PARALLEL},
    "post": {"residual": POST},
    "cross": {"shape": "encoder-decoder"},
}
NUM_LAYERS, NUM_STEPS = 2, 4
PROMPTS = {"one": [5], "even": [5, 5, 5], "ragged": [3, 7, 5]}


def config_of(name: str, **changes: Any) -> ModelConfig:
    values: dict[str, Any] = {"shape": "decoder", "vocab_size": 31, "d_model": 32, "d_ff": 48}
    values |= {"num_layers": NUM_LAYERS, "num_heads": 4} | (FAST | MODULES)[name] | changes
    own = {f.name: values.pop(f.name) for f in fields(AttentionConfig) if f.name in values}
    return ModelConfig(family="gpt2", attention=AttentionConfig(**own), **values)


def of_family(name: str) -> ModelConfig | None:
    """A family's proportions, two heads to one of keys; None unless it is a decoder with attention."""
    config = changed(family(name).sized(32, NUM_LAYERS), vocab_size=31)
    if not isinstance(config, ModelConfig) or config.shape != "decoder":
        return None
    return changed(config, num_heads=4).with_attention(num_kv_heads=2, head_dim=8)


OF_FAMILIES = {name: config for name in FAMILIES.names() if (config := of_family(name)) is not None}
VARIANTS = {name: config for name, config in variants(config_of("gpt2")).items() if config.shape == "decoder"}
FOUND = {f"found {name}": config for name, config in (OF_FAMILIES | VARIANTS).items()}


def takes_fast_path(name: str) -> bool:
    """Whether its layers have a fast path: norms before the branches, scores without a bias."""
    if name not in FOUND:
        return name in FAST
    config = FOUND[name]
    return config.residual == PRE and config.position.kind not in ("alibi", "buckets")


def make(name: str, **changes: Any) -> Any:
    module = Transformer(FOUND[name] if name in FOUND else config_of(name, **changes)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return module


class Rows:
    """Rows that are being decoded, and the tokens of each."""

    def __init__(self, module: Any, prompts: list[int]) -> None:
        self.module, self.read = module, [torch.arange(n) + 3 * r for r, n in enumerate(prompts)]
        lengths = [4 + r for r in range(len(prompts))]
        self.source: dict[str, Any] = {}
        if module.encoder is not None:
            self.source = {"source": torch.arange(sum(lengths)), "source_layout": Layout.of(lengths)}
        self.state = module.start(len(prompts), 12, **self.source)
        self._extend(self.read)

    def step(self) -> Tensor:
        """Append a token to each row -> its hidden states."""
        tokens = [torch.tensor([len(row) + 7 * r]) for r, row in enumerate(self.read)]
        self.read = [torch.cat([row, token]) for row, token in zip(self.read, tokens, strict=True)]
        return self._extend(tokens)

    def expected(self) -> Tensor:
        """The same states by a pass over all that the rows have read."""
        layout = Layout.of([len(row) for row in self.read])
        hidden: Tensor = self.module(torch.cat(self.read), layout, **self.source)
        return hidden[layout.last_tokens()]

    def _extend(self, rows: list[Tensor]) -> Tensor:
        layout = self.state.layout([len(row) for row in rows])
        hidden: Tensor = self.module.extend(self.state, torch.cat(rows), layout)
        return hidden


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("name", FAST | MODULES | FOUND)
@torch.no_grad()
def test_a_step_equals_a_whole_pass(name: str, prompts: str, passes: list[Block]) -> None:
    """By the fast path where it applies and one call of attention takes all rows, else by the modules."""
    rows = Rows(make(name), PROMPTS[prompts])
    fast = takes_fast_path(name) and prompts != "ragged"
    for _ in range(NUM_STEPS):
        passes.clear()
        found = rows.step()
        assert len(passes) == (0 if fast else NUM_LAYERS)
        close(found, rows.expected())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
@torch.no_grad()
def test_every_form_of_the_matmul_is_taken(batch: int, precision: str, passes: list[Block]) -> None:
    module = make("llama").to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    rows = Rows(module, [5] * batch)
    passes.clear()
    with torch.autocast("cpu", enabled=precision == "autocast"):
        found = rows.step()
        assert not passes
        (matmul,) = rows.state.steps
        assert (matmul is one_token_call) == (precision == "float32" and batch == 1)
        error = (found - rows.expected()).norm() / found.norm()
    assert error < (1e-5 if precision == "float32" else 0.05)


class Doubled(nn.Module):
    """Replaces a projection, as adapters and packed weights do, and doubles its output."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.parts, self.in_features = inner, inner.parts, inner.in_features

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = 2 * self.inner(x)
        return y

    def dense(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.inner.dense()
        return 2 * weight, None if bias is None else 2 * bias


def by_replace(module: Any, path: str) -> None:
    replace(module, path, Doubled(module.get_submodule(path)))


def by_hand(module: Any, path: str) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, Doubled(module.get_submodule(path)))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("put", [by_replace, by_hand])
@pytest.mark.parametrize("path", ["attn.qkv", "attn.out", "ffn.inner", "ffn.down"])
@torch.no_grad()
def test_a_replaced_projection_is_used(
    path: str, put: Callable[[Any, str], None], batch: int, passes: list[Block]
) -> None:
    """From the next step on, and still by the fast path."""
    rows, plain = (Rows(make("gpt2"), [5] * batch) for _ in range(2))
    close(rows.step(), plain.step())
    put(rows.module, f"decoder.blocks.1.{path}")
    passes.clear()
    found = rows.step()
    assert not passes and not torch.allclose(found, plain.step(), atol=0.01)
    own = plain.module.get_submodule(f"decoder.blocks.1.{path}")
    again = Rows(plain.module, [5] * batch)  # what was read before the change stays as it was
    again.step()
    own.weight *= 2
    own.bias *= 2
    close(found, again.step())


def double(module: Any) -> None:
    module.weight = nn.Parameter(2 * module.weight)


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight": lambda block: double(block.ffn.down),
    "a norm's weight": lambda block: double(block.attn_norm),
    "a norm": lambda block: setattr(block, "ffn_norm", nn.LayerNorm(32, elementwise_affine=False)),
    "attention": lambda block: setattr(block, "attn", make("gpt2", d_ff=40).decoder.blocks[0].attn),
    "a feed-forward": lambda block: setattr(block, "ffn", make("opt").decoder.blocks[0].ffn),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_whatever_is_replaced_is_used(change: str, passes: list[Block]) -> None:
    """With the result of a new state."""
    rows, fresh, plain = (Rows(make("gpt2"), [5]) for _ in range(3))
    rows.step(), fresh.step(), plain.step()
    for one in (rows, fresh):
        CHANGES[change](one.module.decoder.blocks[1])
    fresh.state.steps.clear()
    passes.clear()
    found = rows.step()
    assert not passes and torch.equal(found, fresh.step())
    assert not torch.allclose(found, plain.step(), atol=0.01)


@pytest.mark.parametrize("how", ["other layers", "fewer", "another block"])
@torch.no_grad()
def test_replaced_layers_are_used(how: str, passes: list[Block]) -> None:
    class Own(Block):
        """A block of its own may compute anything."""

    rows = Rows(make("gpt2"), [5])
    rows.step()
    decoder, other = rows.module.decoder, make("gpt2", d_ff=40).decoder
    if how == "other layers":
        decoder.blocks = other.blocks
    elif how == "fewer":
        del decoder.blocks[1]
        rows.state.keys.kv = rows.state.keys.kv[:1]
    else:
        decoder.blocks[1] = Own(rows.module.config, 1, cross=False).eval()
        decoder.blocks[1].load_state_dict(make("gpt2").decoder.blocks[0].state_dict())
    passes.clear()
    rows.step()
    assert passes == (list(decoder.blocks) if how == "another block" else [])
    (steps,) = rows.state.steps.values()
    assert len(steps.calls) == {"other layers": 2, "fewer": 1, "another block": 0}[how]


HOOKED = ["decoder.blocks.1", "decoder.blocks.0.attn", "decoder.blocks.1.ffn", "decoder.blocks.0.attn_norm"]


@pytest.mark.parametrize("when", ["before", "while rows run"])
@pytest.mark.parametrize("path", [*HOOKED, "decoder.blocks.1.ffn.down", "decoder.blocks.0.attn.qkv"])
@torch.no_grad()
def test_a_hook_is_called_in_every_step(path: str, when: str, passes: list[Block]) -> None:
    """On the fast path, a norm or projection runs its hooks; a hook of a larger module ends the path."""
    module, calls = make("gpt2"), list[nn.Module]()
    part, rows = module.get_submodule(path), None
    if when == "while rows run":
        rows = Rows(module, [5])
        rows.step()
        passes.clear()
    handle = part.register_forward_hook(lambda hooked, *_: calls.append(hooked))
    rows = rows or Rows(module, [5])
    calls.clear()
    passes.clear()
    for number in range(3):
        rows.step()
        assert calls == [part] * (1 + number)
    is_leaf = not list(part.children())
    assert len(passes) == (0 if is_leaf else 3 * NUM_LAYERS)
    handle.remove()
    rows.step()
    assert len(calls) == 3


@torch.no_grad()
def test_a_hook_on_all_modules_is_called(passes: list[Block]) -> None:
    rows, calls = Rows(make("gpt2"), [5]), list[nn.Module]()
    rows.step()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: calls.append(module))
    passes.clear()
    try:
        rows.step()
    finally:
        handle.remove()
    assert set(rows.module.decoder.blocks) <= set(calls) and len(passes) == NUM_LAYERS


@torch.no_grad()
def test_a_layer_in_training_has_its_dropout(passes: list[Block]) -> None:
    rows = Rows(make("gpt2", dropout=0.5), [5])
    for part in ("decoder.blocks.1", "decoder.blocks.0.attn"):
        passes.clear()
        rows.step()
        assert not passes
        rows.module.get_submodule(part).train()
        rows.step()
        assert len(passes) == NUM_LAYERS
        rows.module.eval()


@torch.no_grad()
def test_an_unknown_activation_runs_by_the_modules(passes: list[Block]) -> None:
    """It may depend on the shape of its input, which is another on the fast path."""
    module = make("gpt2")
    module.decoder.blocks[0].ffn.activation = lambda x: x.softmax(0)
    rows = Rows(module, [5])
    passes.clear()
    rows.step()
    assert len(passes) == NUM_LAYERS
