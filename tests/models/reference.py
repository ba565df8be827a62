"""A tiny network beside its reference, for the contract of the families and other packages' tests.

Each family's own cases are in `tests/models/families/test_NAME.py`. Such a file has

- `CASES`: tiny configs by name, the first named as the family;
- `COUNTS`: the number of parameters of each preset;

and, only where the family needs it,

- `oracle(config)`: a reference of its own, where there is no public class: a module, ids (1, T) -> logits;
- `fill(oracle, config, fill_randomly)`: how to fill the reference, where random weights are not suitable;
- `OWN_START`: why its initialisation is not that of the public class.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from seedbed.models.network import FAMILIES, build, family, import_tensors
from seedbed.nn.config import LABELLED

VOCAB_SIZE = 101
FOLDER = Path(__file__).with_name("families")
STEPS = "CONTRIBUTING.md, Add a family, says how"


def tiny(name: str, **changes: Any) -> Any:
    """A config of the family's proportions, three layers of width 64, with the changes."""
    missing = f"no family is named {name!r}: add src/seedbed/models/families/{name}.py first; {STEPS}"
    assert name in FAMILIES.names(), missing
    config = replace(family(name).sized(64, 3), vocab_size=VOCAB_SIZE, dropout=0.0)
    return replace(config, **changes)


def names_of_files() -> set[str]:
    """Names of the families that have a test file."""
    return {path.stem.removeprefix("test_") for path in FOLDER.glob("test_*.py")}


@cache
def family_tests() -> Mapping[str, ModuleType]:
    """The test file of each family that has one."""
    return {
        name: import_module(f"tests.models.families.test_{name}")
        for name in FAMILIES.names()
        if name in names_of_files()
    }


LABELS = ("one", "two", "three")


def headed_cases() -> Mapping[str, Any]:
    """A small network of each family with each head that has labels."""
    return {
        f"{name} {kind}": replace(tiny(name, num_heads=4), head=family(name).labelled(kind, LABELS))
        for name in FAMILIES.names()
        for kind in family(name).architectures
        if kind in LABELLED
    }


@cache
def all_cases() -> Mapping[str, Any]:
    """The tiny configs of all families by name."""
    listed = (getattr(tests, "CASES", {}) for tests in family_tests().values())
    return {name: config for cases in listed for name, config in cases.items()}


@torch.no_grad()
def randomize(module: nn.Module, std: float = 0.3) -> None:
    """Weights large enough that every part shows in the logits."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, std, generator=generator)
        else:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def make_oracle(config: Any) -> nn.Module:
    """The reference implementation."""
    chosen = family(config.family)
    if not chosen.architectures:
        own: nn.Module = family_tests()[config.family].oracle(config)
        return own.eval()
    values = chosen.write_config(config)
    values = {"pad_token_id": 0} | values  # Marian's default is beyond a small vocabulary
    theirs = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    return getattr(transformers, chosen.architecture(config))(theirs).eval()


def run_oracle(oracle: nn.Module) -> Callable[[Tensor, Tensor | None], Tensor]:
    """The reference's logits (T, V) of ids (T,), and of a source (S,) where it has both stacks."""

    def logits(ids: Tensor, source: Tensor | None) -> Tensor:
        source_ids = {} if source is None else {"input_ids": source[None], "decoder_input_ids": ids[None]}
        output = oracle(**source_ids) if source_ids else oracle(ids[None])
        return (output if isinstance(output, Tensor) else output.logits)[0]

    return logits


def published(oracle: nn.Module, config: Any) -> dict[str, Tensor]:
    """The oracle's tensors as in a file: a tied one once."""
    chosen = family(config.family)
    left_out = [*chosen.copies(config), *chosen.zero]
    return {
        name: tensor
        for name, tensor in oracle.state_dict().items()
        if name not in left_out and not any(re.fullmatch(pattern, name) for pattern in chosen.ignored)
    }


def fill(oracle: Any, config: Any, fill_randomly: Callable[..., None] = randomize) -> None:
    """Weights large enough that every part shows, and logits of order 10."""
    own = getattr(family_tests()[config.family], "fill", None)
    if own is None:
        fill_randomly(oracle)
    else:
        own(oracle, config, fill_randomly)
    if hasattr(oracle, "tie_weights"):
        oracle.tie_weights()


def make_pair(config: Any, fill_randomly: Callable[..., None] = randomize) -> tuple[Any, Any]:
    """The reference with random weights, and our network with the same."""
    oracle, module = make_oracle(config), build(config).eval()
    fill(oracle, config, fill_randomly)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
        import_tensors(module, published(oracle, config))
    return oracle, module
