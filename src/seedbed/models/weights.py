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
    """Our name of a tensor and the published one, `{i}` being the layer.

    A name is a module's, for its `weight` and its `bias`, or a parameter's. Several names in `ours` are
    stored as one fused tensor. `storage` is `same`: (out, in) as in nn.Linear; `transposed`: (in, out) as in
    GPT-2's Conv1D; `per_head`: the parts of each head next to each other, as in BLOOM.
    """

    ours: str | tuple[str, ...]
    theirs: str
    storage: Storage = "same"

    def pairs(
        self, num_layers: int, names: Mapping[str, object], side: str
    ) -> Iterator[tuple[list[str], str]]:
        """Our names and theirs for each layer and suffix that is in `names`, which are of this side."""
        ours = (self.ours,) if isinstance(self.ours, str) else self.ours
        for i in range(num_layers) if "{i}" in self.theirs else (0,):
            for suffix in ("", ".weight", ".bias"):
                mine = [name.replace("{i}", str(i)) + suffix for name in ours]
                their = self.theirs.replace("{i}", str(i)) + suffix
                if (their if side == "theirs" else mine[0]) in names:
                    yield mine, their


def import_weights(
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    rules: Sequence[Rule],
    *,
    num_layers: int,
    num_heads: int,
) -> None:
    """Copy a family's tensors into ours (`named_parts` of a module), one at a time.

    Errors: BundleError where a tensor is missing, unknown, or of another shape.
    """
    filled, used = set(), set()
    for rule in rules:
        for names, name in rule.pairs(num_layers, theirs, "theirs"):
            missing = [n for n in names if n not in ours]
            if missing:
                raise BundleError(
                    f"the weights have {name}, but the config has no {missing[0]}; use the config "
                    f"that was saved with these weights"
                )
            used.add(name)
            filled.update(names)
            parts, w = [ours[n] for n in names], theirs[name]
            _check_shape(parts, w, rule.storage, name)
            w = _from_storage(w, rule.storage, len(names), num_heads)
            for part, values in zip(parts, w.split([part.size(0) for part in parts]), strict=True):
                part.copy_(values)
    expected = [name for rule in rules for _, name in rule.pairs(num_layers, ours, "ours")]
    if missing := [name for name in expected if name not in theirs]:
        raise BundleError(
            f"{len(missing)} tensors are missing from the weights, first {missing[0]}; the file is cut or is "
            f"of another config"
        )
    if unnamed := sorted(set(ours) - filled):
        raise BundleError(
            f"the config needs {unnamed[0]}, which no published file of the family has; use the config "
            f"that was saved with these weights"
        )
    if unknown := sorted(set(theirs) - used):
        raise BundleError(
            f"the weights have {len(unknown)} tensors that this config has no place for, first {unknown[0]}; "
            f"use the config that was saved with these weights"
        )


def export_weights(
    ours: Mapping[str, Tensor], rules: Sequence[Rule], *, num_layers: int, num_heads: int
) -> dict[str, Tensor]:
    """Our tensors under a family's names, in its storage."""
    theirs: dict[str, Tensor] = {}
    for rule in rules:
        for names, name in rule.pairs(num_layers, ours, "ours"):
            parts = [ours[n] for n in names]
            theirs[name] = _to_storage(parts, rule.storage, num_heads).contiguous()
    return theirs


def _from_storage(w: Tensor, storage: Storage, num_parts: int, num_heads: int) -> Tensor:
    if storage == "transposed" and w.ndim == 2:
        return w.T
    if storage == "per_head":
        w = w.unflatten(0, (num_heads, num_parts, -1)).transpose(0, 1).flatten(0, 2)
    return w


def _to_storage(parts: Sequence[Tensor], storage: Storage, num_heads: int) -> Tensor:
    w = parts[0] if len(parts) == 1 else torch.cat(list(parts))
    if storage == "per_head":
        w = w.unflatten(0, (len(parts), num_heads, -1)).transpose(0, 1).flatten(0, 2)
    return w.T if storage == "transposed" and w.ndim == 2 else w


def _check_shape(parts: Sequence[Tensor], w: Tensor, storage: Storage, name: str) -> None:
    expected = (sum(part.size(0) for part in parts), *parts[0].shape[1:])
    expected = expected[::-1] if storage == "transposed" else expected
    if w.shape != expected:
        raise BundleError(
            f"{name} has the shape {tuple(w.shape)}, but the config needs {expected}; use the "
            f"config that was saved with these weights"
        )
