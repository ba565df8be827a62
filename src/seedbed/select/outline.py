"""The bytes of a training step without its memory: the network runs on the meta device as it would on a CPU.

Torch's operators on that device differ from the CPU's in three places, and each is put right here: autocast
does nothing, attention is the plain formula, and an LSTM is a call per step.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.fx.experimental  # the parents of two modules below
import torch.utils._sympy
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

aten: Any = torch.ops.aten
MEASURED_STEPS = 32


class NoSymbol:
    """The class of no value."""


def _same(value: Any, *_: Any, **__: Any) -> Any:
    return value


# What operators of the meta device ask of torch's compiler, answered for sizes that are plain numbers.
COMPILER: dict[str, dict[str, Any]] = {
    "sympy": {"Basic": NoSymbol, "Expr": NoSymbol, "Symbol": NoSymbol, "Integer": NoSymbol},
    "torch._dynamo": {"disable": _same},
    "torch._dynamo.config": {"error_on_nested_fx_trace": False},
    "torch.utils._sympy.functions": {"Max": max},
    "torch.fx.experimental.symbolic_shapes": {
        **dict.fromkeys(("guard_or_false", "guard_or_true", "guard_size_oblivious", "expect_true"), bool),
        **dict.fromkeys(
            ("statically_known_true", "guard_scalar", "guard_int", "guarding_hint_or_throw"), _same
        ),
        "has_guarding_hint": lambda _: True,
        "free_unbacked_symbols": lambda _: set(),
        "sym_not": operator.not_,
        "sym_max": max,
        "is_nested_int": lambda _: False,
        "sym_eq": operator.eq,
        "sym_and": lambda *values: all(values),
        "sym_or": lambda *values: any(values),
        "GuardOnDataDependentSymNode": RuntimeError,
    },
}


@contextmanager
def compiler_unloaded() -> Iterator[None]:
    """Keep operators of the meta device from loading torch's compiler: 816 modules, 96 MiB (torch 2.13)."""
    missing = [name for name in COMPILER if name not in sys.modules]
    for name in missing:
        sys.modules[name] = module = ModuleType(name)
        module.__dict__.update(COMPILER[name])
        if "." in name:
            setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)
    try:
        yield
    finally:
        for name in reversed(missing):
            del sys.modules[name]
            if "." in name:
                delattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2])


class AsOnCPU(TorchFunctionMode):
    """Inside it, calls on the meta device allocate what the CPU's calls allocate, in this precision."""

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.dtype = torch.bfloat16 if precision == "bfloat16" else None
        self.casts: dict[int, Tensor] = {}  # of weights: autocast keeps them until it ends

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is F.linear:
            return func(*map(self._cast, args), **{name: self._cast(arg) for name, arg in options.items()})
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **options)
        if func is torch.gru and self.dtype is not None:
            state, weights, *rest = args[-8:] if len(args) == 10 else args[1:]
            others: list[Any] = [self._cast(argument) for argument in (*args[: len(args) - 8], state)]
            return func(*others, [*map(self._cast, weights)], *rest)  # type: ignore[call-overload]
        if func is torch.lstm and len(args) == 9 and isinstance(args[1], list):
            return self._lstm(*args)
        return func(*args, **options)

    def backward(self, loss: Tensor) -> None:
        """The same as `loss.backward()`, which would leave the mode while activations are recomputed."""
        one = (torch.ones_like(loss),)
        _engine_run_backward((loss,), one, False, False, (), allow_unreachable=True, accumulate_grad=True)

    def _cast(self, argument: Any) -> Any:
        """The argument of a matmul as autocast changes it."""
        if self.dtype is None or not isinstance(argument, Tensor) or argument.dtype != torch.float32:
            return argument
        if not (isinstance(argument, nn.Parameter) and argument.requires_grad and torch.is_grad_enabled()):
            return argument.to(self.dtype)
        return self.casts.setdefault(id(argument), argument.to(self.dtype))

    def _attend(
        self, *qkv: Tensor, attn_mask: Tensor | None, dropout_p: float, is_causal: bool, **options: Any
    ) -> Tensor:
        """Attention by the CPU's fused kernel, which it uses without dropout; else by the plain formula."""
        q, k, v = map(self._cast, qkv)
        bias = self._cast(attn_mask)
        learns = bias is not None and bias.requires_grad
        if dropout_p or learns:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, dropout_p=dropout_p, is_causal=is_causal, **options
            )
        attend = aten._scaled_dot_product_flash_attention_for_cpu
        if bias is not None and bias.dtype == torch.bool:
            bias = torch.zeros_like(bias, dtype=q.dtype).masked_fill_(bias, 0.0)
        y: Tensor = attend(q, k, v, 0.0, is_causal, attn_mask=bias, scale=options["scale"])[0]
        return y

    def _lstm(self, x: Tensor, initial: list[Tensor], weights: list[Tensor], *_: Any) -> tuple[Tensor, ...]:
        """One layer over rows of one length, x (B, T, M), by the CPU's fused kernel."""
        hidden, cell = (self._cast(state[0]) for state in initial)
        copies = [self._cast(weight) for weight in weights]
        x = self._cast(x.transpose(0, 1).clone(memory_format=torch.contiguous_format))
        y, last, after = _FusedLSTM.apply(x, hidden, cell, *copies)  # type: ignore[no-untyped-call]
        return y.transpose(0, 1), torch.stack([last]), torch.stack([after])


class _FusedLSTM(torch.autograd.Function):
    """The tensors of `mkldnn_rnn_layer`; its workspace is measured on a real one of one and of two steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Forward."""
        size = _workspace_bytes(*x.shape, x.dtype)
        workspace = torch.empty(size, dtype=torch.uint8, device=x.device)
        y, last, cell = torch.empty_like(x), torch.empty_like(others[0]), torch.empty_like(others[1])
        ctx.save_for_backward(x, *others, y, cell, workspace)
        return y, last, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Any) -> tuple[Tensor | None, ...]:
        """Backward; the kernel's gradients are in float32."""
        inputs = ctx.saved_tensors[:7]
        return tuple(
            torch.empty_like(each, dtype=torch.float32).to(each.dtype) if needed else None
            for each, needed in zip(inputs, ctx.needs_input_grad, strict=True)
        )


@cache
def _workspace_bytes(num_steps: int, num_rows: int, d_model: int, dtype: torch.dtype) -> int:
    """Bytes of the workspace of a real LSTM layer, which grow evenly beyond a few steps."""
    if num_steps > MEASURED_STEPS:
        half, whole = (
            _workspace_bytes(n, num_rows, d_model, dtype) for n in (MEASURED_STEPS // 2, MEASURED_STEPS)
        )
        return whole + 2 * (whole - half) * (num_steps - MEASURED_STEPS) // MEASURED_STEPS
    x, state = torch.zeros(num_steps, num_rows, d_model), torch.zeros(num_rows, d_model)
    matrix, bias = torch.zeros(4 * d_model, d_model), torch.zeros(4 * d_model)
    tensors = [each.to(dtype) for each in (x, matrix, matrix, bias, bias, state, state)]
    with torch.enable_grad():
        run = aten.mkldnn_rnn_layer(
            tensors[0].requires_grad_(), *tensors[1:], False, [], 2, d_model, 1, True, False, False, True
        )
    return int(run[-1].nbytes)
