"""Linear maps and embeddings, as types: what may stand in their places, and the one way to put it there.

A projection's place holds a `LinearLike` module and an embedding's an `EmbeddingLike` one: the plain classes
below, or a wrapper (an adapter, packed weights) that answers for what it holds. Everybody else asks through
these two protocols and never looks for a weight. Of a module that has them, three more methods are used:

- `bare()`, of a Linear-like: its weight and bias while a call of it is the matmul with them and nothing else,
  None otherwise; the fused recurrent kernel and decoding steps compute with them in place of the call;
- `tied(ids)`, of an embedding: see `Embedding.tied`;
- `parameter_blocks()`: for each of its own parameters by name, (rows, step scale) of every matrix in it. An
  optimizer with steps of a fixed size multiplies them by the step scale (training/optimizer.py).
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
    """A module in a projection's place: x (N, in_features) -> (N, sum of the parts)."""

    @property
    def parts(self) -> Mapping[str, int]:
        """The named parts of the output and their sizes, in order."""

    @property
    def in_features(self) -> int:
        """The width of the input."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """x (N, in_features) -> (N, sum of the parts)."""

    def dense(self) -> Weights:
        """The dense weight and bias that it amounts to: for export, merging, counting.

        They are the parameters themselves where it is those: what is written into them is then loaded.
        """


@runtime_checkable
class EmbeddingLike(Protocol):
    """A module in an embedding's place: a table (num_embeddings, embedding_dim) of rows looked up by id."""

    @property
    def num_embeddings(self) -> int:
        """The number of rows."""

    @property
    def embedding_dim(self) -> int:
        """The width of a row."""

    @property
    def device(self) -> torch.device:
        """Where the rows are."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the rows that it returns."""

    def __call__(self, ids: Tensor, /) -> Tensor:
        """ids (...) -> (..., M)."""

    def unembed(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Logits (N, num_embeddings) of hidden states (N, M): the output of a network that ties it."""

    def dense(self) -> Tensor:
        """The dense table that it amounts to; the parameter itself where it is one."""


class Projection(nn.Linear):
    """One matmul for several named parts that read the same input: x (N, M) -> (N, sum of the parts).

    Weight rules and adapters speak of the parts: a projection `attn.qkv` with parts q, k, v answers to
    `attn.q`, `attn.k` and `attn.v`. `step_scales` are, by part, how much longer than usual an optimizer's
    steps of a fixed size have to be, where what it gives is scaled by another number than usual.
    """

    def __init__(self, d_in: int, parts: Mapping[str, int], *, bias: bool) -> None:
        self.parts = dict(parts)
        self.step_scales = dict.fromkeys(parts, 1.0)
        super().__init__(d_in, sum(parts.values()), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, M) -> (N, sum of the parts)."""
        own = self._parameters  # nn.Module looks for `self.weight` in vain before it looks there
        return matmul(x, own["weight"], own["bias"])  # type: ignore[arg-type]

    def dense(self) -> Weights:
        """The parameters."""
        return self.weight, self.bias

    def bare(self) -> Weights | None:
        """The parameters, unless a hook or a subclass does more than the matmul."""
        return self.dense() if type(self) is Projection and not is_hooked(self) else None

    def parameter_blocks(self) -> ParameterBlocks:
        """The parts are matrices of their own."""
        return {"weight": [(rows, self.step_scales[part]) for part, rows in self.parts.items()]}

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Embedding(nn.Embedding):
    """A table (num_rows, M) looked up by id, its memory left as it is; `step_scale`: see Projection."""

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
        """Rows of ids (N,) -> (N, M), and an `unembed` for a pass that ties it; None: its own will do.

        Autograd would make a gradient (V, M) for either use and add the two; here the output's comes to the
        lookup, which adds its rows to it in place: a step of gpt2:124m with 1,024 tokens is 5% shorter.
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


class Placed(nn.Module):
    """A network whose device and type are those of its embedding, whatever stands in its other places."""

    embed: EmbeddingLike

    @property
    def device(self) -> torch.device:
        """Where the network computes, and its inputs must be."""
        return self.embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its hidden states outside autocast."""
        return self.embed.dtype


def replace(root: nn.Module, path: str, new: nn.Module) -> None:
    """Put `new` in the place of the Linear-like module or the embedding at `path` of `root`.

    A tied output follows, it is a method of the embedding; so do rows that are being decoded, from their next
    step on: what a decode state keeps of the layers is compared with them in every step (nn/step.py).
    Errors: UsageError where `path` is no such place, or `new` is of another kind or size.
    """
    places = {name: _form(child) for name, child in whole_modules(root) if _form(child)}
    if path not in places:
        near = ", ".join(get_close_matches(path, places, cutoff=0.0))
        raise UsageError(f"no projection or embedding is at {path!r}; the nearest names are {near or 'none'}")
    if _form(new) != places[path]:
        raise UsageError(
            f"{path} holds {places[path]}, but a {type(new).__name__} with {_form(new) or 'neither'} was to "
            "replace it; give it the parts and sizes of what it replaces"
        )
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, new.train(root.get_submodule(path).training))


def _form(module: nn.Module) -> str:
    """What a module must share with the one that it replaces; empty where it cannot."""
    if isinstance(module, LinearLike):
        return f"a projection of {module.in_features} to {dict(module.parts)}"
    if isinstance(module, EmbeddingLike):
        return f"an embedding of {module.num_embeddings} x {module.embedding_dim}"
    return ""


def whole_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules by path; of a Linear-like one or an embedding itself alone, not what it holds."""
    whole: str | None = None
    for path, child in module.named_modules():
        if whole is None or not path.startswith(whole):
            yield path, child
            whole = None
            if isinstance(child, LinearLike | EmbeddingLike):
                whole = f"{path}." if path else ""


def linear_modules(module: nn.Module) -> Iterator[tuple[str, LinearLike]]:
    """The Linear-like modules by path, a wrapper in place of what it holds."""
    return ((path, child) for path, child in whole_modules(module) if isinstance(child, LinearLike))


def num_weights(linear: LinearLike) -> int:
    """Numbers of its dense weight: half of the FLOPs of a token."""
    return linear.in_features * sum(linear.parts.values())


def named_parts(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every dense tensor by name, a projection's parts one by one as views of it."""
    for path, child in whole_modules(module):
        if isinstance(child, LinearLike):
            parent = path.rpartition(".")[0]
            for name, tensor in zip(("weight", "bias"), child.dense(), strict=True):
                pieces = () if tensor is None else tensor.detach().split(list(child.parts.values()))
                for part, piece in zip(child.parts, pieces, strict=tensor is not None):
                    yield ".".join(filter(None, (parent, part, name))), piece
        elif isinstance(child, EmbeddingLike):
            yield ".".join(filter(None, (path, "weight"))), child.dense().detach()
        else:
            for name, parameter in child.named_parameters(recurse=False):
                yield ".".join(filter(None, (path, name))), parameter.detach()


def plain_weights(module: nn.Module) -> Weights | None:
    """What the module's `bare()` says; None where it has none."""
    offer = getattr(module, "bare", None)
    weights: Weights | None = None if offer is None else offer()
    return weights


def is_hooked(module: nn.Module) -> bool:
    """Tell whether a forward hook must be called, which only the module's own call does."""
    return any(map(bool, hooks_of(module)))


def hooks_of(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    """Where torch keeps the forward hooks of a module and of all modules, as they are added and removed."""
    own = (module._forward_hooks, module._forward_pre_hooks)
    return *own, torch_modules._global_forward_hooks, torch_modules._global_forward_pre_hooks


def _unembed(table: Tensor, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
    return matmul(hidden, table, bias)


class _LookupAndTable(torch.autograd.Function):
    """Rows of the weight, and the weight again for the output that shares it."""

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
