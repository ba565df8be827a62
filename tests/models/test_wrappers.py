"""The contract of Linear-like modules: a wrapper in every place of every family is the network itself."""

import copy
import re
from typing import Any

import pytest
import torch
from tests.models.reference import VOCAB_SIZE, all_cases, headed_cases, randomize
from tests.models.wrappers import (
    WRAPPERS,
    FlippedLinear,
    FlippedTable,
    Linear,
    Table,
    TiedTable,
    places,
    wrap,
)
from torch import Tensor, nn

from seedbed.base.errors import UsageError
from seedbed.generation.language_model import LanguageModel
from seedbed.models.network import (
    build,
    export_tensors,
    import_tensors,
    initialize,
    parameter_count,
)
from seedbed.nn.block import Block
from seedbed.nn.layout import Layout
from seedbed.nn.linear import (
    linear_modules,
    named_parts,
    num_weights,
    replace,
)
from seedbed.select.compute import forward_flops, parameters_by_part, training_flops
from seedbed.training.optimizer import parameter_blocks_of

HEADS = headed_cases()
CASES = all_cases() | HEADS
DECODING = [name for name, c in all_cases().items() if getattr(c, "shape", "decoder") != "encoder"]
CLOSE = 1e-6  # where other kernels compute, of the norm of the whole


def fresh(case: str) -> Any:
    module = build(CASES[case]).eval()
    initialize(module, torch.Generator().manual_seed(0))
    randomize(module, std=0.2)
    return module


class Pair:
    """A network, and the same with a wrapper in every place."""

    def __init__(self, case: str, kind: str) -> None:
        self.case, self.config = case, CASES[case]
        self.plain = fresh(case)
        self.wrapped = copy.deepcopy(self.plain)
        self.places = places(self.wrapped)
        for path in self.places:
            wrap(self.wrapped, path, *WRAPPERS[kind])
        # Step by step in place of the fused kernel; a tied table's two gradients in place of one.
        self.same_calls = kind == "open" or not hasattr(self.config, "cell")
        self.both = [self.plain, self.wrapped]


@pytest.fixture(scope="module", params=WRAPPERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, kind: str) -> Pair:
    return Pair(request.param, kind)


def same(found: Tensor, expected: Tensor, *, exactly: bool) -> None:
    assert expected.norm() > 1e-3 and torch.isfinite(expected).all()
    if exactly:
        assert torch.equal(found, expected)
    else:
        assert (found - expected).norm() <= CLOSE * expected.norm()


def logits_of(module: Any) -> Tensor:
    ids, layout = torch.arange(4, 24), Layout.of([13, 7])
    both = getattr(module.config, "shape", "") == "encoder-decoder"
    hidden = module(ids, layout, **({"source": ids.flip(0), "source_layout": layout} if both else {}))
    classes = module.config.head.kind == "classification"
    logits: Tensor = module.classify(hidden, layout) if classes else module.output(hidden)
    return logits


def plain_name(name: str) -> str:
    return name.replace(".inner", "")


def test_every_place_is_wrapped(pair: Pair) -> None:
    """And no other module has weights of a projection or an embedding."""
    leaves = {n for n, m in pair.plain.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    assert leaves == set(pair.places) == set(places(pair.wrapped))
    assert all(isinstance(pair.wrapped.get_submodule(n), Linear | Table) for n in leaves)


@torch.no_grad()
def test_logits_are_those_of_the_plain_network(pair: Pair) -> None:
    expected, found = (logits_of(module) for module in pair.both)
    same(found, expected, exactly=pair.same_calls)
    assert pair.plain.device == pair.wrapped.device and pair.plain.dtype == pair.wrapped.dtype


def test_gradients_are_those_of_the_plain_network(pair: Pair) -> None:
    gradients = []
    for module in pair.both:
        module.zero_grad()
        logits = logits_of(module)
        weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        (logits.log_softmax(-1) * weight).sum().backward()
        gradients.append({plain_name(n): p.grad for n, p in module.named_parameters()})
    expected, found = gradients
    assert list(found) == list(expected)
    assert {n for n, g in found.items() if g is None} == {n for n, g in expected.items() if g is None}
    flat = [torch.cat([g.flatten() for g in one.values() if g is not None]) for one in gradients]
    same(flat[1], flat[0], exactly=isinstance(pair.wrapped.embed, TiedTable))


def test_counts_are_those_of_the_plain_network(pair: Pair) -> None:
    count = sum(parameter.numel() for parameter in pair.wrapped.parameters())
    assert count == parameter_count(pair.config)
    plain, wrapped = ({n: num_weights(m) for n, m in linear_modules(module)} for module in pair.both)
    assert wrapped == plain
    for path, weights in plain.items():
        assert weights == pair.plain.get_submodule(path).weight.numel()
    assert parameters_by_part(pair.wrapped) == parameters_by_part(pair.plain)


@pytest.mark.parametrize("frozen", [False, True])
def test_flops_are_those_of_the_plain_network(pair: Pair, frozen: bool) -> None:
    """Also where only the last parameters train."""
    for module in pair.both:
        parameters = list(module.parameters())
        for parameter in parameters[: -2 if frozen else 0]:
            parameter.requires_grad_(False)
    forward, training = (
        [call(module, row_tokens=12, **given) for module in pair.both]
        for call, given in ((forward_flops, {}), (training_flops, {"num_tokens": 24}))
    )
    for parameter in [*pair.plain.parameters(), *pair.wrapped.parameters()]:
        parameter.requires_grad_(True)
    assert forward[0] == forward[1] and min(forward[0].values()) > 0
    assert training[0] == training[1] > 24 * sum(forward[0].values())


def test_optimizers_cut_parameters_as_of_the_plain_network(pair: Pair) -> None:
    cut = [
        [(plain_name(p.name), p.parameter.shape, p.rows, p.step_scale) for p in blocks]
        for blocks in (parameter_blocks_of(module, dict(module.named_parameters())) for module in pair.both)
    ]
    assert cut[0] == cut[1]


@torch.no_grad()
def test_export_and_import_are_those_of_the_plain_network(pair: Pair) -> None:
    expected, found = (export_tensors(module) for module in pair.both)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    empty = copy.deepcopy(pair.wrapped)
    for parameter in empty.parameters():
        parameter.fill_(torch.nan)
    import_tensors(empty, expected)
    again = dict(named_parts(empty))
    assert all(torch.equal(again[name], tensor) for name, tensor in named_parts(pair.plain))


class Rows:
    """Rows that a network decodes, each with a source where it has both stacks."""

    def __init__(self, module: Any, prompts: list[int]) -> None:
        self.module, self.next = module, torch.arange(len(prompts)) + 30
        lengths = [5 + r for r in range(len(prompts))]
        source = {"source": torch.arange(4, 4 + sum(lengths)), "source_layout": Layout.of(lengths)}
        both = getattr(module.config, "shape", "") == "encoder-decoder"
        self.state = module.start(len(prompts), 20, **(source if both else {}))
        self.logits = self._extend(torch.arange(4, 4 + sum(prompts)), prompts)

    def step(self) -> Tensor:
        self.next = (self.next + 7) % VOCAB_SIZE
        return self._extend(self.next, [1] * len(self.next))

    def copy(self) -> "Rows":
        other = Rows.__new__(Rows)
        vars(other).update(vars(self), state=copy.deepcopy(self.state))
        return other

    def _extend(self, ids: Tensor, counts: list[int]) -> Tensor:
        hidden = self.module.extend(self.state, ids, self.state.layout(counts))
        logits: Tensor = self.module.output(hidden)
        return logits


@pytest.mark.parametrize("pair", DECODING, indirect=True)
@pytest.mark.parametrize("prompts", [[5], [5, 5, 5], [3, 7, 5]], ids=["one", "even", "ragged"])
@torch.no_grad()
def test_decoding_is_that_of_the_plain_network(
    pair: Pair, kind: str, prompts: list[int], passes: list[Block]
) -> None:
    """On the fast path where the plain network's steps are; and by the modules, for a hook."""
    found, taken = [], []
    for module in pair.both:
        rows = Rows(module, prompts)
        passes.clear()
        found.append(torch.stack([rows.step() for _ in range(4)]))
        taken.append(len(passes))
    assert taken[0] == taken[1]
    fast = not taken[0] and not hasattr(pair.config, "cell")
    # One token goes as a vector through a plain projection, and as a row through a wrapper.
    exactly = pair.same_calls and (kind == "open" or not fast or len(prompts) > 1)
    same(found[1], found[0], exactly=exactly)
    if fast:
        for module in pair.both:
            handle = module.decoder.blocks[0].register_forward_hook(lambda *_: None)
            rows = Rows(module, prompts)
            again = torch.stack([rows.step() for _ in range(4)])
            handle.remove()
            assert len(passes) == 3 * 5
            passes.clear()
            same(again, found[0], exactly=False)


@pytest.mark.parametrize("pair", DECODING, indirect=True)
@torch.no_grad()
def test_beams_are_those_of_the_plain_network(pair: Pair) -> None:
    answers = [
        LanguageModel(module, generation={"decoder_start_token_id": 2}).generate(
            [[5, 9, 23, 4], [7]], 8, num_beams=3, num_samples=2, eos_ids=()
        )
        for module in pair.both
    ]
    ids = [[[one.token_ids for one in each] for each in found] for found in answers]
    assert ids[0] == ids[1] and all(one != other for one, other in ids[0])


@pytest.mark.parametrize("case", DECODING)
@torch.no_grad()
def test_a_wrapper_put_in_while_rows_run_takes_effect_at_the_next_step(case: str) -> None:
    """In every place that a step reads; with the result of a new state."""
    module = fresh(case)
    rows = Rows(module, [5, 5])
    rows.step()
    # What reads the source has done so; of the layers the one before the last.
    layer = f".{len(module.decoder.blocks if hasattr(module, 'decoder') else module.layers) - 2}."
    read = [p for p in places(module) if not p.startswith("encoder.") and not p.endswith("cross.kv")]
    read = [p for p in read if layer in p or not re.search(r"\.\d+\.", p)]
    assert len(read) > 2
    for path in read:
        plain, wrapped, again = (rows.copy() for _ in range(3))
        expected, inner = plain.step(), module.get_submodule(path)
        wrap(module, path, FlippedLinear, FlippedTable)
        found = wrapped.step()
        assert (found - expected).norm() > 1e-3 * expected.norm(), path
        if hasattr(again.state, "steps"):
            again.state.steps.clear()
        same(found, again.step(), exactly=True)
        replace(module, path, inner)
    same(rows.step(), expected, exactly=True)


@pytest.mark.parametrize("case", ["gpt2", "lstm tied", "bert"])
@torch.no_grad()
def test_a_tied_output_follows_its_embedding(case: str) -> None:
    module = fresh(case)
    if getattr(module, "transform", None) is not None:
        module.transform = nn.Identity()
    hidden = torch.randn(3, module.config.d_model, generator=torch.Generator().manual_seed(0))
    expected = module.output(hidden.flip(-1))
    assert not torch.allclose(module.output(hidden), expected, atol=0.1)
    wrap(module, "embed", FlippedLinear, FlippedTable)
    assert torch.equal(module.output(hidden), expected)


def test_a_replacement_of_another_kind_or_size_is_refused() -> None:
    module, qkv = fresh("gpt2"), "decoder.blocks.1.attn.qkv"
    message = f"no projection or embedding is at '{qkv[:-1]}'; the nearest names are {qkv}, "
    with pytest.raises(UsageError, match=re.escape(message)):
        replace(module, qkv[:-1], nn.Identity())
    for path in ("decoder.blocks.1", "decoder.final_norm", ""):
        with pytest.raises(UsageError, match="no projection or embedding is at"):
            replace(module, path, nn.Identity())
    attn = module.decoder.blocks[1].attn
    message = f"{qkv} is a projection of 64 to {{'q': 64, 'k': 64, 'v': 64}}, but the "
    for other in (attn.out, module.embed, nn.Linear(64, 192)):
        with pytest.raises(UsageError, match=re.escape(message)):
            replace(module, qkv, other)
    with pytest.raises(
        UsageError, match="embed is an embedding of 101 x 64, but the Projection to replace it is a proj"
    ):
        replace(module, "embed", attn.out)


@torch.no_grad()
def test_weights_are_not_imported_into_a_wrapper_that_computes_its_own() -> None:
    """They would be lost."""
    module, name = fresh("gpt2"), "transformer.h.1.mlp.c_fc.weight"
    tensors = export_tensors(module)
    wrap(module, "decoder.blocks.1.ffn.inner", FlippedLinear, FlippedTable)
    with pytest.raises(UsageError, match=r"decoder\.blocks\.1\.ffn\.up\.weight is computed"):
        import_tensors(module, tensors)
    assert torch.equal(export_tensors(module)[name], tensors[name].flip(1))


def test_a_wrapper_has_the_mode_of_what_it_replaces() -> None:
    module = fresh("gpt2")
    for training in (True, False):
        module.train(training)
        wrap(module, "decoder.blocks.0.ffn.down", Linear, Table)
        assert module.decoder.blocks[0].ffn.down.training is training
