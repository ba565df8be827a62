"""Linear maps and embeddings whose memory a family's initialisation or a bundle fills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules import module as torch_modules

# Where oneDNN's product of a few tokens beats the one that torch takes: with AVX-512, 4 to 32 tokens over
# weights that come from memory, 1.13 to 1.68 times; with AVX2 or smaller weights it loses (2026-11-24).
FEW_TOKENS, LARGE_NUMBERS = (4, 32), 2**19
HAS_FEW_TOKENS_PRODUCT = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def takes_few(num_tokens: int, like: Tensor) -> bool:
    """Tell whether products of so many tokens, without gradients, may be oneDNN's."""
    return HAS_FEW_TOKENS_PRODUCT and FEW_TOKENS[0] <= num_tokens <= FEW_TOKENS[1] and is_plain(like)


def is_plain(x: Tensor) -> bool:
    """Tell whether products of x are float32 on a CPU, without gradients."""
    plain = x.dtype is torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and not torch.is_grad_enabled()


def one_token_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` for the one token x (d_in,) -> (d_out,), where `is_plain`.

    With a bias a 12 x 768 decoder's products take 0.983 of F.linear's time (AVX-512, 2026-11-24).
    """
    return torch.mv(weight, x) if bias is None else torch.addmv(bias, weight, x)


def few_tokens_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` for a few tokens x (N, d_in), where `takes_few`."""
    if not HAS_FEW_TOKENS_PRODUCT or weight.numel() < LARGE_NUMBERS:
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return y


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (N, d_in), weight (d_out, d_in), bias (d_out,) -> (N, d_out)."""
    return (few_tokens_product if takes_few(x.size(0), x) else F.linear)(x, weight, bias)


class Projection(nn.Linear):
    """One product for several named parts that read the same input: x (N, M) -> (N, sum of the parts).

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
        return product(x, own["weight"], own["bias"])  # type: ignore[arg-type]

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Embedding(nn.Embedding):
    """A table (num_rows, M) looked up by id, its memory left as it is; `step_scale`: see Projection."""

    step_scale = 1.0

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Placed(nn.Module):
    """A network whose device and type are those of its embedding, whatever stands in its other places."""

    embed: Embedding

    @property
    def device(self) -> torch.device:
        """Where the network computes, and its inputs must be."""
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its hidden states outside autocast."""
        return self.embed.weight.dtype


def named_parts(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by name, a projection's one by one as views of it."""
    for path, child in module.named_modules():
        if isinstance(child, Projection):
            parent = path.rpartition(".")[0]
            for name, parameter in child.named_parameters(recurse=False):
                pieces = parameter.detach().split(list(child.parts.values()))
                for part, piece in zip(child.parts, pieces, strict=True):
                    yield ".".join(filter(None, (parent, part, name))), piece
        else:
            for name, parameter in child.named_parameters(recurse=False):
                yield ".".join(filter(None, (path, name))), parameter.detach()


def is_hooked(module: nn.Module) -> bool:
    """Tell whether a forward hook must be called, which only the module's own call does."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    everywhere = (torch_modules._global_forward_hooks, torch_modules._global_forward_pre_hooks)
    return any(hooks) or any(everywhere)


def lookup_and_table(weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of weight (V, M) for ids (N,) -> (N, M), and the weight again for a product that shares it.

    Autograd would make a gradient (V, M) for either use and add the two; here the product's comes to the
    lookup, which adds its rows to it in place: a step of gpt2:124m with 1,024 tokens is 5% shorter.
    """
    x, table = _LookupAndTable.apply(weight, ids)  # type: ignore[no-untyped-call]
    return x, table


class _LookupAndTable(torch.autograd.Function):
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
