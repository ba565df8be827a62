"""One recurrent language model: embedding, layers of one cell, output (Zaremba et al. 1409.2329)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from seedbed.nn.config import RecurrentConfig
from seedbed.nn.layout import Layout
from seedbed.nn.linear import Embedding, EmbeddingLike, NetworkBase, Projection
from seedbed.nn.recurrent import RecurrentLayer
from seedbed.nn.state import DecodeState, RecurrentState


class RecurrentNetwork(NetworkBase):
    """A network with the interface of a Transformer; a row's memory starts at zero."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        self.embed: EmbeddingLike = Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(
            RecurrentLayer(config.cell, config.d_model) for _ in range(config.num_layers)
        )
        self.unembed = None
        if not config.tie_embeddings:
            self.unembed = Projection(config.d_model, {"unembed": config.vocab_size}, bias=True)

    def forward(self, ids: Tensor, layout: Layout) -> Tensor:
        """ids (N,) -> hidden states (N, M)."""
        return self._run(ids, layout, self._memory(sum(n > 0 for n in layout.lengths)))[0]

    def output(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of the hidden states (..., M) that are used."""
        return self.embed.unembed(hidden) if self.unembed is None else self.unembed(hidden)

    def start(self, num_rows: int, capacity: int) -> RecurrentState:
        """A decode state of empty rows; their memory does not grow, so `capacity` has no effect."""
        return RecurrentState(self._memory(num_rows))

    def extend(self, state: DecodeState, ids: Tensor, layout: Layout) -> Tensor:
        """Append ids (N,) to the rows, with the layout from `state.layout` -> their hidden states (N, M)."""
        assert isinstance(state, RecurrentState)
        rows = [r for r, n in enumerate(layout.lengths) if n]
        memory = state.memory if len(rows) == len(layout.lengths) else state.memory[:, :, rows]
        hidden, memory = self._run(ids, layout, memory)
        state.advance(layout, memory)
        return hidden

    def _run(self, ids: Tensor, layout: Layout, memory: Tensor) -> tuple[Tensor, Tensor]:
        """ids (N,), memory (num_layers, 1 or 2, B, M) -> hidden states (N, M), the memory after them."""
        dropout = self.config.dropout
        x, after = self.embed(ids), []
        for layer, before in zip(self.layers, memory, strict=True):
            if dropout:
                x = F.dropout(x, dropout, self.training)
            if self.checkpoint_activations and torch.is_grad_enabled():
                x, last = checkpoint(layer, x, layout, before, use_reentrant=False)
            else:
                x, last = layer(x, layout, before)
            after.append(last)
        if dropout:
            x = F.dropout(x, dropout, self.training)
        return x, torch.stack(after)

    def _memory(self, num_rows: int) -> Tensor:
        num_memories = 2 if self.config.cell == "lstm" else 1
        shape = (len(self.layers), num_memories, num_rows, self.config.d_model)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)
