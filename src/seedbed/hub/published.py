"""Tensors of files under the names that their family publishes, and the network that they fill."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from seedbed.base.errors import BundleError, SeedbedWarning
from seedbed.hub.weight_files import Weights
from seedbed.models.family import Config, Family, Network
from seedbed.models.network import build, family, import_tensors, require_plausible


class PublishedTensors(Mapping[str, Tensor]):
    """The tensors of files under their published names, read one at a time."""

    def __init__(
        self, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Tensor]
    ) -> None:
        """`names` maps a published name to the name in the file, which `shapes` and `read` take."""
        self.names, self.shapes, self.read, self.shapes_only = names, shapes, read, False
        self.not_finite: dict[str, int] = {}  # how many infinite and NaN numbers each tensor has

    def __getitem__(self, name: str) -> Tensor:
        stored = self.names[name]
        if self.shapes_only:
            return torch.empty(self.shapes[stored], device="meta")
        tensor = self.read(stored)
        self.not_finite[stored] = num_not_finite(tensor)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @torch.no_grad()
    def require_shapes(self, config: Config) -> None:
        """Refuse tensors that are missing, unknown or of another shape than the config's; none is read."""
        self.shapes_only = True
        import_tensors(build(config, "meta"), self)
        self.shapes_only = False

    @torch.no_grad()
    def fill(self, config: Config, path: Path, *, dtype: torch.dtype, device: torch.device) -> Network:
        """The network of a config with these tensors, in evaluation mode; they are in memory once."""
        module = build(config, device).to(dtype)
        import_tensors(module, self)
        if bad := {name: count for name, count in self.not_finite.items() if count}:
            count, name = sum(bad.values()), next(iter(bad))
            numbers = "1 number that is" if count == 1 else f"{count:,} numbers that are"
            warnings.warn(
                f"{path} has {numbers} not finite, first in {name}; the model's output is worthless: write "
                "or download the file again",
                SeedbedWarning,
                stacklevel=3,
            )
        return module.eval()


class BundleTensors(PublishedTensors):
    """The tensors of a bundle's weight files; of two tied ones, the files may have either or both."""

    def __init__(self, weights: Weights, chosen: Family, config: Config) -> None:
        bare = not any(name.startswith(chosen.prefix) for name in weights.headers)
        prefix = chosen.prefix if bare else ""
        names = {}
        for stored in weights.headers:
            name = prefix + stored
            for end, new in chosen.legacy_names.items():
                name = name.removesuffix(end) + new if name.endswith(end) else name
            if not any(re.fullmatch(pattern, name) for pattern in chosen.ignored):
                names[name] = stored
        shapes = {name: header.shape for name, header in weights.headers.items()}
        super().__init__(names, shapes, weights.read)
        # `config.json` completed from the names of the tensors.
        self.config = chosen.config_from_names(config, names.keys())
        for name in chosen.zero:
            if (stored := names.pop(name, None)) is not None and weights.read(stored).any():
                raise BundleError(
                    f"{name} is not zero, and {chosen.name} has no parameter for it; take another model"
                )
        self._tied = []
        for copy, original in chosen.copies(self.config).items():
            if (stored := names.pop(copy, None)) is not None:
                self._tied.append((stored, names.setdefault(original, stored)))
        for name, stored in names.items():
            dtype = weights.headers[stored].dtype
            if dtype is None or not dtype.is_floating_point:
                kind = "of a kind that torch lacks" if dtype is None else f"in {str(dtype)[6:]}"
                raise BundleError(
                    f"{name} has numbers {kind}, which are packed or not weights; take the model that is "
                    "not quantized, or a .gguf file"
                )

    def require_equal_copies(self) -> None:
        """Refuse tied tensors that differ in the files."""
        for copy, original in self._tied:
            if copy != original and not torch.equal(*map(self.read, (copy, original))):
                raise BundleError(
                    f"{copy} differs from {original}, which config.json ties it to; if it is the output, set "
                    "tie_word_embeddings to false"
                )


def num_not_finite(tensor: Tensor) -> int:
    """How many numbers of a tensor are infinite or NaN."""
    if tensor.itemsize == 1:  # torch cannot sum 8-bit floats
        tensor = tensor.to(torch.float32)
    # A sum is three times as fast as a test of each number; it may also overflow.
    if tensor.sum().isfinite():
        return 0
    return int((~tensor.isfinite()).sum())


def require_matching_weights(weights: Weights, config: Config) -> BundleTensors:
    """The published tensors of weights whose headers match the config, else BundleError."""
    tensors = BundleTensors(weights, family(config.family), config)
    require_plausible(tensors.config, len(tensors), weights.num_bytes, "bytes")
    tensors.require_shapes(tensors.config)
    return tensors
