"""Recurrent layers: LSTM and GRU. Letters as in layout.py; T steps, G gates (4 of an LSTM, 3 of a GRU)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.nn.layout import Layout
from seedbed.nn.linear import Projection, Weights, plain_weights

LSTM_GATES, GRU_GATES = ("input", "forget", "cell", "output"), ("reset", "update", "new")


class RecurrentLayer(nn.Module):
    """One recurrent layer: x (N, M) and the rows' memory before -> (N, M) and their memory after.

    LSTM (Hochreiter and Schmidhuber 1997, with forget gates): memory (2, B, M), hidden then cell. GRU (Cho
    et al. 1406.1078, the reset gate after the matmul, as in cuDNN and PyTorch): memory (1, B, M).
    """

    def __init__(self, cell: str, d_model: int) -> None:
        super().__init__()
        gates = LSTM_GATES if cell == "lstm" else GRU_GATES
        self.cell, self.d_model = cell, d_model
        self.num_memories = 2 if cell == "lstm" else 1
        self.read = Projection(d_model, {f"read_{gate}": d_model for gate in gates}, bias=True)
        self.recur = Projection(d_model, {f"recur_{gate}": d_model for gate in gates}, bias=True)

    def forward(self, x: Tensor, layout: Layout, memory: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, M), memory (1 or 2, B, M) of the rows with tokens -> (N, M), the memory after."""
        lengths = [n for n in layout.lengths if n]
        read, recur = plain_weights(self.read), plain_weights(self.recur)
        if read is None or recur is None:
            return self._step_by_step(x, lengths, memory)
        even = len(set(lengths)) == 1
        if even:
            y, memory = self._fused(x.unflatten(0, (len(lengths), -1)), memory, (read, recur))
            return y.flatten(0, 1), memory
        order, packed, sizes = pack(lengths, x.device)
        y, memory = self._fused(x[packed], memory[:, order], (read, recur), sizes)
        return y[_inverse(packed)], memory[:, _inverse(order)]

    def _fused(
        self, x: Tensor, memory: Tensor, both: tuple[Weights, Weights], sizes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, T, M), or packed (N, M) with the rows alive at each step."""
        (read, read_bias), (recur, recur_bias) = both
        assert read_bias is not None and recur_bias is not None
        weights = [read, recur, read_bias, recur_bias]
        initial: Any = [state[None].to(x.dtype) for state in memory]
        run: Any = torch.lstm
        if self.cell == "gru":
            run, initial = torch.gru, initial[0]
        common = (initial, weights, True, 1, 0.0, self.training, False)
        y, *after = run(x, *common, True) if sizes is None else run(x, sizes, *common)
        return y, after[0] if len(after) == 1 else torch.cat(after)

    def _step_by_step(self, x: Tensor, lengths: Sequence[int], memory: Tensor) -> tuple[Tensor, Tensor]:
        """The same by calls of the modules, for projections that are hooked or replaced."""
        order, packed, sizes = pack(lengths, x.device)
        read, memory = self.read(x[packed]), memory[:, order]
        outputs, start = [], 0
        for size in sizes.tolist():
            now = self._gates(read[start : start + size], self.recur(memory[0, :size]), memory[:, :size])
            memory = torch.cat([now, memory[:, size:]], dim=1)
            outputs.append(now[0])
            start += size
        return torch.cat(outputs)[_inverse(packed)], memory[:, _inverse(order)]

    def _gates(self, read: Tensor, recur: Tensor, memory: Tensor) -> Tensor:
        """The gates of both matmuls (B, G M) and the memory (1 or 2, B, M) -> the memory after the step."""
        if self.cell == "lstm":
            i, f, g, o = (read + recur).chunk(4, dim=-1)
            c = f.sigmoid() * memory[1] + i.sigmoid() * g.tanh()
            return torch.stack([o.sigmoid() * c.tanh(), c])
        (r_x, z_x, n_x), (r_h, z_h, n_h) = read.chunk(3, dim=-1), recur.chunk(3, dim=-1)
        z = (z_x + z_h).sigmoid()
        n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
        return ((1 - z) * n + z * memory[0])[None]


def pack(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Pack tokens step by step: order of rows (B,), longest first, index of tokens (N,), batch sizes (T,)."""
    counts = torch.tensor(list(lengths))
    order = counts.argsort(descending=True, stable=True)
    starts = (counts.cumsum(0) - counts)[order]
    steps = torch.arange(int(counts.max()))
    alive = steps[:, None] < counts[order]  # (T, B)
    index = (starts + steps[:, None])[alive]
    return order.to(device), index.to(device), alive.sum(1)


def _inverse(order: Tensor) -> Tensor:
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return inverse
