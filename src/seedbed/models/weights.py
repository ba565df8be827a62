"""Names and storage of weights, ours <-> a family's published ones: one list of rules for both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seedbed.base.errors import BundleError

Storage = Literal["same", "transposed", "per_head"]


@dataclass(frozen=True)
class Rule:
    """Our name of a tensor and the published one: a module's, for `weight` and `bias`, or a parameter's.

    `{i}` is the layer. `storage` is `same`: (out, in) as in nn.Linear; `transposed`: (in, out) as in GPT-2's
    Conv1D; `per_head`: the parts of each head next to each other, as in BLOOM.
    """

    ours: str | tuple[str, ...]  # several are stored as one fused tensor
    theirs: str
    storage: Storage = "same"


def expand(rules: Sequence[Rule], num_layers: int) -> Iterator[tuple[list[str], str, Storage]]:
    """Our names, theirs and its storage, for each layer and each suffix that a tensor may have."""
    for rule in rules:
        ours = (rule.ours,) if isinstance(rule.ours, str) else rule.ours
        for i in range(num_layers) if "{i}" in rule.theirs else (0,):
            for suffix in ("", ".weight", ".bias"):
                their, *mine = (name.replace("{i}", str(i)) + suffix for name in (rule.theirs, *ours))
                yield mine, their, rule.storage


def import_weights(
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    rules: Sequence[Rule],
    *,
    num_layers: int,
    num_heads: int,
) -> None:
    """Copy a family's tensors into ours (`named_parts` of a module), one at a time. Errors: BundleError."""
    filled, used, missing = set(), set(), []
    advice = "use the config that was saved with these weights"
    for names, name, storage in expand(rules, num_layers):
        if name not in theirs:
            missing += [name] if names[0] in ours else []
            continue
        if lacking := [n for n in names if n not in ours]:
            raise BundleError(f"the weights have {name}, but the config has no {lacking[0]}; {advice}")
        used.add(name)
        filled.update(names)
        parts, w = [ours[n] for n in names], theirs[name]
        shape = (sum(part.size(0) for part in parts), *parts[0].shape[1:])
        shape = shape[::-1] if storage == "transposed" else shape
        if w.shape != shape:
            raise BundleError(
                f"{name} has the shape {tuple(w.shape)}, but the config needs {shape}; {advice}"
            )
        if storage == "transposed":
            w = w.T if w.ndim == 2 else w
        elif storage == "per_head":
            w = from_heads(w, len(parts), num_heads)
        for part, values in zip(parts, w.split([part.size(0) for part in parts]), strict=True):
            part.copy_(values)
    if missing:
        raise BundleError(
            f"{len(missing)} tensors are missing from the weights, first {missing[0]}; the file is cut or is "
            f"of another config"
        )
    if unnamed := sorted(set(ours) - filled):
        raise BundleError(
            f"the config needs {unnamed[0]}, which no published file of the family has; {advice}"
        )
    if unknown := sorted(set(theirs) - used):
        raise BundleError(
            f"the weights have {len(unknown)} tensors that this config has no place for, first {unknown[0]}; "
            f"{advice}"
        )


def export_weights(
    ours: Mapping[str, Tensor], rules: Sequence[Rule], *, num_layers: int, num_heads: int
) -> dict[str, Tensor]:
    """Our tensors under a family's names, in its storage."""
    theirs: dict[str, Tensor] = {}
    for names, name, storage in expand(rules, num_layers):
        if names[0] not in ours:
            continue
        w = ours[names[0]] if len(names) == 1 else torch.cat([ours[n] for n in names])
        if storage == "transposed":
            w = w.T if w.ndim == 2 else w
        elif storage == "per_head":
            w = to_heads(w, len(names), num_heads)
        theirs[name] = w.contiguous()
    return theirs


def to_heads(w: Tensor, num_parts: int, num_heads: int) -> Tensor:
    """Rows (parts, heads, head_dim) -> (heads, parts, head_dim), as `per_head` stores them."""
    parts: Tensor = w.unflatten(0, (num_parts, num_heads, -1))
    return parts.transpose(0, 1).flatten(0, 2)


def from_heads(w: Tensor, num_parts: int, num_heads: int) -> Tensor:
    """The inverse of `to_heads`."""
    heads: Tensor = w.unflatten(0, (num_heads, num_parts, -1))
    return heads.transpose(0, 1).flatten(0, 2)
