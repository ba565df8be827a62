"""Projections and embeddings as protocols, so that adapters and packed weights can replace them.

Every projection of a network is a `LinearLike` module and every embedding an `EmbeddingLike` one: the plain
classes below, or a wrapper around one. Other code uses these two protocols only, and never reads `.weight` of
another module; `replace` puts one in another's place. A module may have `parameter_blocks`, for optimizers
with steps of a fixed size, `tied`, as Embedding has, and `plain_weights`, as Projection has, with which the
fused recurrent kernel and the fast path of decoding compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules import module as torch_modules

from seedbed.base.errors import UsageError
from seedbed.nn.matmul import matmul

Weights = tuple[Tensor, Tensor | None]  # (d_out, d_in) and (d_out,)
Unembed = Callable[[Tensor, Tensor | None], Tensor]
ParameterBlocks = dict[str, list[tuple[int, float]]]


@runtime_checkable
class LinearLike(Protocol):
    """A linear map with named parts that read one input, such as q, k and v: a projection or its wrapper."""

    @property
    def parts(self) -> Mapping[str, int]:
        """The names and sizes of the parts, in the order of the output."""

    @property
    def in_features(self) -> int:
        """The width of the input."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """x (N, in_features) -> (N, sum of the parts)."""

    def dense(self) -> Weights:
        """The equivalent dense weight and bias: the module's own parameters where it has them, not copies."""


@runtime_checkable
class EmbeddingLike(Protocol):
    """A table (num_embeddings, embedding_dim) of rows looked up by id: an embedding or its wrapper."""

    @property
    def num_embeddings(self) -> int:
        """The number of rows."""

    @property
    def embedding_dim(self) -> int:
        """The width of a row."""

    @property
    def device(self) -> torch.device:
        """The device of the table."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the rows that it returns."""

    def __call__(self, ids: Tensor, /) -> Tensor:
        """ids (...) -> (..., M)."""

    def unembed(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Logits (N, num_embeddings) of hidden states (N, M): the output of a network with a tied output."""

    def dense(self) -> Tensor:
        """The equivalent dense table; the parameter itself where there is one."""


class Projection(nn.Linear):
    """The plain Linear-like module: one matmul for all parts, x (N, M) -> (N, sum of the parts).

    Weight rules and adapters address the parts: those of `attn.qkv` are `attn.q`, `attn.k` and `attn.v`.
    `step_scales` multiply the steps of optimizers with steps of a fixed size, where the output is scaled.
    """

    def __init__(self, d_in: int, parts: Mapping[str, int], *, bias: bool) -> None:
        self.parts = dict(parts)
        self.step_scales = dict.fromkeys(parts, 1.0)
        super().__init__(d_in, sum(parts.values()), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, M) -> (N, sum of the parts)."""
        own = self._parameters  # faster than `self.weight`, which nn.Module first looks up elsewhere
        return matmul(x, own["weight"], own["bias"])  # type: ignore[arg-type]

    def dense(self) -> Weights:
        """The parameters."""
        return self.weight, self.bias

    def plain_weights(self) -> Weights | None:
        """The parameters, or None if a hook or a subclass does more than the matmul."""
        return self.dense() if type(self) is Projection and not is_hooked(self) else None

    def parameter_blocks(self) -> ParameterBlocks:
        """For each of its own parameters, (rows, step scale) of every matrix in it: one per part."""
        return {"weight": [(rows, self.step_scales[part]) for part, rows in self.parts.items()]}

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Embedding(nn.Embedding):
    """The plain embedding, a table (num_rows, M) without initial values; `step_scale`: see Projection."""

    step_scale = 1.0

    @property
    def device(self) -> torch.device:
        """Where the table is."""
        return self.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The table's type."""
        return self.weight.dtype

    def unembed(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Logits (N, num_rows) of hidden states (N, M)."""
        return matmul(hidden, self.weight, bias)

    def tied(self, ids: Tensor) -> tuple[Tensor, Unembed | None]:
        """Rows (N, M) of ids (N,), and the `unembed` to use in the same pass; None: the module's own.

        The lookup adds its gradient to the tied output's in place: a step of gpt2:124m is 5% faster.
        """
        learns = torch.is_grad_enabled() and self.weight.requires_grad and not torch.compiler.is_compiling()
        if not learns or type(self) is not Embedding or is_hooked(self):
            return self(ids), None
        x, table = _LookupAndTable.apply(self.weight, ids)  # type: ignore[no-untyped-call]
        return x, partial(_unembed, table)

    def dense(self) -> Tensor:
        """The parameter."""
        return self.weight

    def parameter_blocks(self) -> ParameterBlocks:
        """One matrix."""
        return {"weight": [(self.num_embeddings, self.step_scale)]}

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class NetworkBase(nn.Module):
    """A network: its device and type are those of its embedding, whatever its other modules are."""

    embed: EmbeddingLike

    @property
    def device(self) -> torch.device:
        """The device of the network and of its inputs."""
        return self.embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its hidden states outside autocast."""
        return self.embed.dtype

    def set_activation_checkpointing(self, enabled: bool) -> None:
        """Store only each layer's input for the backward pass and recompute the rest (1604.06174)."""
        for module in self.modules():
            if hasattr(module, "checkpoint_activations"):
                module.checkpoint_activations = enabled  # type: ignore[assignment]


def replace(root: nn.Module, path: str, new: nn.Module) -> None:
    """Replace the Linear-like module or the embedding at `path` of `root` by `new`; a tied output follows.

    Errors: UsageError where `path` has no such module, or `new` is of another kind or size.
    """
    present = {name: _interface(child) for name, child in whole_modules(root) if _interface(child)}
    if path not in present:
        near = ", ".join(get_close_matches(path, present, cutoff=0.0))
        raise UsageError(f"no projection or embedding is at {path!r}; the nearest names are {near or 'none'}")
    if _interface(new) != present[path]:
        raise UsageError(
            f"{path} is {present[path]}, but the {type(new).__name__} to replace it is "
            f"{_interface(new) or 'neither'}; give it the same parts and sizes"
        )
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, new.train(root.get_submodule(path).training))


def _interface(module: nn.Module) -> str:
    """The kind and sizes that a replacement must share; empty for another kind of module."""
    if isinstance(module, LinearLike):
        return f"a projection of {module.in_features} to {dict(module.parts)}"
    if isinstance(module, EmbeddingLike):
        return f"an embedding of {module.num_embeddings} x {module.embedding_dim}"
    return ""


def whole_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules by path, without what is inside a Linear-like module or an embedding."""
    whole: str | None = None
    for path, child in module.named_modules():
        if whole is None or not path.startswith(whole):
            yield path, child
            whole = None
            if isinstance(child, LinearLike | EmbeddingLike):
                whole = f"{path}." if path else ""


def linear_modules(module: nn.Module) -> Iterator[tuple[str, LinearLike]]:
    """The Linear-like modules by path, a wrapper instead of the module in it."""
    return ((path, child) for path, child in whole_modules(module) if isinstance(child, LinearLike))


def num_weights(linear: LinearLike) -> int:
    """The size of its dense weight: half of its FLOPs per token."""
    return linear.in_features * sum(linear.parts.values())


def named_parts(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every dense tensor by name, a projection's parts one by one as views of it."""
    for path, child in whole_modules(module):
        if isinstance(child, LinearLike):
            parent = path.rpartition(".")[0]
            for name, tensor in zip(("weight", "bias"), child.dense(), strict=True):
                views = () if tensor is None else tensor.detach().split(list(child.parts.values()))
                for part, view in zip(child.parts, views, strict=tensor is not None):
                    yield ".".join(filter(None, (parent, part, name))), view
        elif isinstance(child, EmbeddingLike):
            yield ".".join(filter(None, (path, "weight"))), child.dense().detach()
        else:
            for name, parameter in child.named_parameters(recurse=False):
                yield ".".join(filter(None, (path, name))), parameter.detach()


def plain_weights(module: nn.Module) -> Weights | None:
    """The result of the module's `plain_weights`; None if it has no such method."""
    method = getattr(module, "plain_weights", None)
    weights: Weights | None = None if method is None else method()
    return weights


def is_hooked(module: nn.Module) -> bool:
    """Whether the module has a forward hook, which only its own call runs."""
    return any(map(bool, hooks_of(module)))


def hooks_of(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    """The tables in which torch stores the forward hooks of this module and of all modules."""
    own = (module._forward_hooks, module._forward_pre_hooks)
    return *own, torch_modules._global_forward_hooks, torch_modules._global_forward_pre_hooks


def _unembed(table: Tensor, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
    return matmul(hidden, table, bias)


class _LookupAndTable(torch.autograd.Function):
    """Rows of the weight, and the weight again for the tied output."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Forward."""
        ctx.save_for_backward(ids)
        ctx.shape = weight.shape
        ctx.set_materialize_grads(False)
        return weight[ids], weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: Tensor | None, of_table: Tensor | None) -> tuple[Tensor | None, None]:
        """Backward."""
        if of_rows is None:
            return of_table, None
        if of_table is None:
            of_table = of_rows.new_zeros(ctx.shape)
        return of_table.index_add_(0, ctx.saved_tensors[0], of_rows.to(of_table.dtype)), None
