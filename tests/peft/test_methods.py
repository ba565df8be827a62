"""The contract of the files in `seedbed.peft`, over all families."""

import copy
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.reference import all_cases, headed_cases, randomize, tiny
from tests.models.wrappers import Linear
from torch import Tensor, nn

import seedbed
from seedbed.generation.language_model import LanguageModel
from seedbed.hub.adapter import merge_adapter, save_adapter
from seedbed.hub.base import Base
from seedbed.hub.bundle import save_bundle
from seedbed.models.adapter import METHODS, Method, head_modules
from seedbed.models.network import FAMILIES, build, family, initialize
from seedbed.nn.layout import Layout
from seedbed.nn.linear import linear_modules, replace
from seedbed.text.training import train_tokenizer

HEADS = headed_cases()
CASES = all_cases() | HEADS
FOLDER = Path(__file__).parent


def made(name: str) -> Method:
    """The method with its defaults, and a small rank where it has one."""
    settings = METHODS.get(name).settings_class()
    if hasattr(settings, "rank"):
        settings = changed(settings, rank=3)
    return METHODS.get(name)(settings)


def fresh(config: Any) -> Any:
    module = build(config).eval()
    initialize(module, torch.Generator().manual_seed(0))
    randomize(module, std=0.1)
    return module


@torch.no_grad()
def learn(module: nn.Module) -> None:
    """Other numbers than those of the start."""
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def logits_of(module: Any) -> Tensor:
    ids, layout = torch.arange(4, 24), Layout.of([13, 7])
    both = getattr(module.config, "shape", "") == "encoder-decoder"
    hidden = module(ids, layout, **({"source": ids.flip(0), "source_layout": layout} if both else {}))
    classes = module.config.head.kind == "classification"
    logits: Tensor = module.classify(hidden, layout) if classes else module.output(hidden)
    return logits


def same(found: Tensor, expected: Tensor, *, tolerance: float = 1e-5) -> None:
    """`tolerance` is a share of the largest number, which is 1 at least."""
    largest = max(1.0, expected.abs().max().item())
    assert torch.isfinite(expected).all() and (found - expected).abs().max().item() <= tolerance * largest


@pytest.fixture(params=METHODS.names())
def method(request: pytest.FixtureRequest) -> Method:
    return made(request.param)


@pytest.fixture(params=CASES)
def config(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]


def test_every_method_has_a_test_and_its_name(method: Method) -> None:
    name = method.settings_class().method
    assert name in METHODS.names() and (FOLDER / f"test_{name}.py").exists()
    assert METHODS.get(name) is type(method) and name == METHODS.get(name).settings_class().method


def test_the_output_is_unchanged_and_only_its_own_parameters_learn(method: Method, config: Any) -> None:
    module = fresh(config)
    with torch.no_grad():
        expected = logits_of(module)
    base = {id(parameter) for parameter in module.parameters()}
    head = {id(p) for own in head_modules(module).values() for p in own.parameters()}
    assert bool(head) == bool(config.head.labels)
    method.apply(module, torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = logits_of(module)
    exactly = not hasattr(config, "cell")  # step by step in place of the fused kernel
    same(found, expected, tolerance=0.0 if exactly else 1e-6)
    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert {id(p) for p in own.values()} & base == head and len(own) > len(head)
    learn(module)
    logits = logits_of(module)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits.log_softmax(-1) * weight).sum().backward()
    without = [name for name, p in own.items() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without
    assert all(p.grad is None for p in module.parameters() if not p.requires_grad)


@torch.no_grad()
def test_merged_removed_saved_and_loaded(method: Method, config: Any, tmp_path: Path) -> None:
    module = fresh(config)
    plain = copy.deepcopy(module)
    method.apply(module, torch.Generator().manual_seed(1))
    learn(module)
    expected = logits_of(module)
    base = Base.open(save_bundle(tmp_path / "base", plain))
    save_adapter(tmp_path / "adapter", module, method.settings, base=base)  # type: ignore[attr-defined]
    lm = seedbed.load(tmp_path / "adapter")
    assert lm.adapter is not None and lm.adapter.settings.method == method.settings_class().method
    same(logits_of(lm.module), expected, tolerance=0.0)
    assert lm.config.head == config.head
    removed = copy.deepcopy(module)
    method.remove(removed)
    if not config.head.labels:
        same(logits_of(removed), logits_of(plain), tolerance=0.0)
    double = copy.deepcopy(module).double()
    exact = logits_of(double)
    merge_adapter(double, method.settings)  # type: ignore[attr-defined]
    same(logits_of(double), exact, tolerance=1e-7)  # some norms are in float32
    # Some networks amplify rounding: attention that is not scaled and nearly one-hot, as in this Flan-T5.
    own_rounding = (expected - exact).abs().max().item() / max(1.0, exact.abs().max().item())
    near = max(1e-5, 4 * own_rounding)
    merge_adapter(module, method.settings)  # type: ignore[attr-defined]
    same(logits_of(module), expected, tolerance=near)
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in plain.named_parameters()]
    save_bundle(tmp_path / "merged", module)
    same(logits_of(seedbed.load(tmp_path / "merged").module), expected, tolerance=near)


@pytest.mark.parametrize("name", FAMILIES.names())
@torch.no_grad()
def test_it_works_over_any_linear_like_module(method: Method, name: str) -> None:
    plain, wrapped = fresh(tiny(name)), fresh(tiny(name))
    for path, inner in list(linear_modules(wrapped)):
        replace(wrapped, path, Linear(inner))
    for module in (plain, wrapped):
        method.apply(module, torch.Generator().manual_seed(1))
        learn(module)
    expected = logits_of(plain)
    same(logits_of(wrapped), expected)
    merge_adapter(wrapped, method.settings)  # type: ignore[attr-defined]
    same(logits_of(wrapped), expected)


def adapted(method: Method, config: Any) -> tuple[LanguageModel, LanguageModel]:
    """A model with an adapter at work, and the same merged."""
    tokenizer = train_tokenizer(["a text of some words"], "bytes", vocab_size=257)
    models = []
    for merges in (False, True):
        module = fresh(changed(config, vocab_size=257))
        method.apply(module, torch.Generator().manual_seed(1))
        learn(module)
        settings: Any = method.settings  # type: ignore[attr-defined]
        if merges:
            merge_adapter(module, settings)
        both = getattr(config, "shape", "") == "encoder-decoder"
        generation = {"decoder_start_token_id": 2} if both else {}
        models.append(LanguageModel(module, tokenizer, generation=generation))
    return models[0], models[1]


@pytest.mark.parametrize("name", [n for n in FAMILIES.names() if family(n).sized(64, 1).shape != "encoder"])
def test_answers_and_scores_are_those_of_the_merged_model(method: Method, name: str) -> None:
    lm, merged = adapted(method, tiny(name))
    prompts = ["a text", "some words of it", "a"]
    for how in ({"temperature": 0.0}, {"seed": 3}, {"num_beams": 3}):
        answers = []
        for model in (lm, merged):
            found = model.generate(prompts, 6, **how)  # type: ignore[call-overload]
            answers.append([one.token_ids for one in found])
        assert answers[0] == answers[1]
    pairs = [("a text", " of some"), ("a text", " words"), ("x", "yz")]
    for one, other in zip(lm.score_batch(pairs), merged.score_batch(pairs), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4, rel=1e-5)
    same(lm.embed(prompts), merged.embed(prompts))


def test_labels_are_those_of_the_merged_model(method: Method) -> None:
    for case, config in HEADS.items():
        lm, merged = adapted(method, config)
        if case.endswith("classification"):
            scores = [
                [list(one.scores.values()) for one in m.classify(["a text", "b"])] for m in (lm, merged)
            ]
        else:
            scores = [
                [[word.score for word in one.words] for one in m.tag([["a", "text"], ["b"]])]
                for m in (lm, merged)
            ]
        for one, other in zip(*scores, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
