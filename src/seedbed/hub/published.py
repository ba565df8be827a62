"""A bundle's tensors as its family publishes them, and the network that they fill."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from seedbed.base.errors import BundleError
from seedbed.hub.finite import num_not_finite, warn_unless_finite
from seedbed.hub.weight_files import Weights
from seedbed.models.family import Config, Family, Network
from seedbed.models.network import build, family, import_tensors, require_plausible


class Published(Mapping[str, Tensor]):
    """The tensors of open weight files, read one at a time; what holds nothing learnt is left out.

    A file that was saved without the output lacks the family's prefix before each name. A tensor that the
    family ties to another may lie there as well as the other, or in its place. `config` is what the names
    say of it beside `config.json`; `is_meta`: shapes alone, no memory. `not_finite` counts the numbers
    that are not, in each tensor that was read.
    """

    def __init__(self, weights: Weights, chosen: Family, config: Config) -> None:
        bare = not any(name.startswith(chosen.prefix) for name in weights.held)
        prefix = chosen.prefix if bare else ""
        given = {prefix + _today(name, chosen.legacy_names): name for name in weights.held}
        self._weights, self.is_meta = weights, False
        self.not_finite: dict[str, int] = {}
        self._names = {
            name: their
            for name, their in given.items()
            if not any(re.fullmatch(p, name) for p in chosen.ignored)
        }
        self.config = chosen.config_from_names(config, self._names.keys())
        for name in chosen.zero:
            if (their := self._names.pop(name, None)) is not None and weights.read(their).any():
                raise BundleError(
                    f"{name} is not zero, and {chosen.name} has no place for it; take another model"
                )
        self._twice = []
        for copy, original in chosen.copies(self.config).items():
            if (their := self._names.pop(copy, None)) is not None:
                self._twice.append((their, self._names.setdefault(original, their)))
        for name, their in self._names.items():
            dtype = weights.held[their].dtype
            if dtype is None or not dtype.is_floating_point:
                kind = "of a kind that torch lacks" if dtype is None else f"in {str(dtype)[6:]}"
                raise BundleError(
                    f"{name} holds numbers {kind}, which are packed or no weights; take the model that was "
                    "not quantized, or a .gguf file"
                )

    def require_equal_copies(self) -> None:
        """Refuse tensors that are one in this config and two in the files."""
        for copy, original in self._twice:
            if copy != original and not torch.equal(*map(self._weights.read, (copy, original))):
                raise BundleError(
                    f"{copy} differs from {original}, which config.json ties it to; if it is the output, set "
                    "tie_word_embeddings to false"
                )

    def __getitem__(self, name: str) -> Tensor:
        their = self._names[name]
        if self.is_meta:
            return torch.empty(self._weights.held[their].shape, device="meta")
        tensor = self._weights.read(their)
        self.not_finite[name] = num_not_finite(tensor)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _today(name: str, older: Mapping[str, str]) -> str:
    """A tensor's name as today's files have it."""
    return next((name.removesuffix(end) + new for end, new in older.items() if name.endswith(end)), name)


@torch.no_grad()
def require_matching_weights(weights: Weights, config: Config) -> Published:
    """Refuse weights that are not this config's, by their headers alone -> them as they are published.

    Errors: BundleError naming the tensor that is missing, unknown, misshapen or packed.
    """
    theirs = Published(weights, family(config.family), config)
    require_plausible(theirs.config, len(theirs), weights.num_bytes, "bytes")
    theirs.is_meta = True
    import_tensors(build(theirs.config, "meta"), theirs)
    theirs.is_meta = False
    return theirs


@torch.no_grad()
def fill_network(weights: Weights, config: Config, *, dtype: torch.dtype, device: torch.device) -> Network:
    """The network of a config with these weights; no second copy of them is in memory at any time."""
    theirs = require_matching_weights(weights, config)
    module = build(theirs.config, device).to(dtype)
    import_tensors(module, theirs)
    theirs.require_equal_copies()
    warn_unless_finite(weights.path, theirs.not_finite)
    return module
