"""What the tests of the models share: rows of tokens driven through a network in every way that it offers."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.models.reference import VOCAB_SIZE, randomize
from torch import Tensor, nn

from seedbed.nn.layout import Layout

# One token; two neighbours of one length; the longest neither first nor last.
LENGTHS = (11, 11, 23, 1, 17)
SOURCES = (9, 14, 14, 1, 6)
# The tokens that a row reads in chunks before it continues in single steps.
PROMPTS = (4, 9, 13, 1, 7)
Oracle = Callable[..., Tensor]  # (ids (T,), source (S,) or None) -> logits (T, V)


class Trial:
    """A network beside its oracle, and rows to compare them on; sources where the network has both stacks."""

    def __init__(self, module: Any, oracle: Oracle) -> None:
        generator = torch.Generator().manual_seed(8)
        self.module, self.oracle = module, oracle
        self.rows = [self._ids(n, generator) for n in LENGTHS]
        self.sources: list[Tensor | None] = [None] * len(self.rows)
        if getattr(module.config, "shape", None) == "encoder-decoder":
            self.sources = [self._ids(n, generator) for n in SOURCES]

    @staticmethod
    def _ids(n: int, generator: torch.Generator) -> Tensor:
        return torch.randint(4, VOCAB_SIZE, (n,), generator=generator)

    def expected(self, rows: Sequence[Tensor], sources: Sequence[Tensor | None]) -> list[Tensor]:
        with torch.no_grad():
            return [self.oracle(row, source) for row, source in zip(rows, sources, strict=True)]

    def source(self, chosen: Sequence[int]) -> dict[str, Any]:
        sources = [source for i in chosen if (source := self.sources[i]) is not None]
        layout = Layout.of([len(source) for source in sources])
        return {"source": torch.cat(sources), "source_layout": layout} if sources else {}

    def forward(self, chosen: Sequence[int]) -> list[Tensor]:
        """Logits of the chosen rows in one flat batch."""
        rows = [self.rows[i] for i in chosen]
        layout = Layout.of([len(row) for row in rows])
        hidden = self.module(torch.cat(rows), layout, **self.source(chosen))
        return list(self.module.output(hidden).split(layout.lengths))

    def start(self, chosen: Sequence[int], capacity: int) -> Any:
        return self.module.start(len(chosen), capacity, **self.source(chosen))

    def advance(self, state: Any, rows: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
        """Append the next counts[r] tokens of each row -> their logits, (counts[r], V) each."""
        ids = torch.cat([row[n : n + c] for row, n, c in zip(rows, state.lengths, counts, strict=True)])
        hidden = self.module.extend(state, ids, state.layout(counts))
        return list(self.module.output(hidden).split(list(counts)))

    def decode(
        self, state: Any, rows: Sequence[Tensor], outputs: list[Tensor], until: Sequence[int], chunk: int
    ) -> None:
        """Drive each row to until[r] tokens, its prompt in chunks: rows that are complete stay idle."""
        while state.lengths != list(until):
            left = zip(PROMPTS, state.lengths, until, strict=False)
            counts = [min(chunk, max(1, prompt - n), end - n) for prompt, n, end in left]
            for r, logits in enumerate(self.advance(state, rows, counts)):
                outputs[r] = torch.cat([outputs[r], logits])

    def check_forward(self, tolerance: float) -> None:
        close(self.forward(range(len(self.rows))), self.expected(self.rows, self.sources), tolerance)

    @torch.no_grad()
    def check_decoding(self, tolerance: float) -> None:
        """Uneven chunks; then rows reordered, copied, dropped, rolled back and joined on their way."""
        decoder = getattr(self.module, "decoder", None)
        for slack in (None,) if decoder is None else (decoder.slack, 0):
            if decoder is not None:
                decoder.slack = slack
            state, outputs = self.start(range(5), max(LENGTHS)), empty(5)
            self.decode(state, self.rows, outputs, LENGTHS, 5)
            close(outputs, self.expected(self.rows, self.sources), tolerance)
            self._check_moves(tolerance)

    def _check_moves(self, tolerance: float) -> None:
        state, outputs = self.start(range(5), max(LENGTHS)), empty(5)
        self.decode(state, self.rows, outputs, [10, 7, 9, 1, 8], 5)
        state.select([2, 0, 4, 1, 2, 4])
        state.select([0, 1, 4, 5])
        order = [2, 0, 2, 4]  # row 2 twice: from its tenth token on the copies go apart
        rows, outputs = [self.rows[i] for i in order], [outputs[i] for i in order]
        rows[2] = torch.cat([rows[2][:9], rows[2][9:].flip(0)])
        snapshot = state.snapshot()
        wrong = [row.flip(0) for row in rows]
        self.advance(state, wrong, [3, 0, 1, 2])  # a draft, refused
        state.rollback(snapshot)
        assert state.lengths == list(snapshot.lengths) == [9, 10, 9, 8]
        self.advance(state, wrong, [1, 1, 1, 1])
        state.rollback(snapshot)
        late, late_outputs = self.start([1], len(self.rows[2]) + 4), empty(1)
        self.decode(late, [self.rows[1]], late_outputs, [6], 4)
        state.join(late)
        rows, outputs, order = [*rows, self.rows[1]], [*outputs, *late_outputs], [*order, 1]
        self.decode(state, rows, outputs, [len(row) for row in rows], 5)
        close(outputs, self.expected(rows, [self.sources[i] for i in order]), tolerance)

    def gradients(self, batches: Sequence[Sequence[int]], weights: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of a weighted sum of log-probabilities, summed over the batches of rows."""
        self.module.zero_grad()
        for batch in batches:
            logits = torch.cat(self.forward(batch))
            weight = torch.cat([weights[i] for i in batch]).to(logits)
            (logits.log_softmax(-1) * weight).sum().backward()
        return [p.grad.clone() for p in self.module.parameters() if p.grad is not None]

    def check_packed_gradients(self) -> None:
        """Rows packed in one batch give the sum of the documents' gradients.

        A key's bias has no gradient, softmax does not see a constant: in float32 only the whole is a measure.
        """
        chosen = range(len(self.rows))
        weights = [torch.randn(n, VOCAB_SIZE, generator=torch.Generator().manual_seed(n)) for n in LENGTHS]
        packed, alone = (self.gradients(b, weights) for b in ([chosen], [[i] for i in chosen]))
        whole = flat(alone).norm()
        assert whole > 1
        assert (flat(packed) - flat(alone)).norm() <= 1e-5 * whole
        self.module.double()
        packed, alone = (self.gradients(b, weights) for b in ([chosen], [[i] for i in chosen]))
        for name, p, a in zip(dict(self.module.named_parameters()), packed, alone, strict=True):
            assert (p - a).norm() <= 1e-5 * max(a.norm(), 1e-6 * whole), name


def empty(num_rows: int) -> list[Tensor]:
    return [torch.zeros(0, VOCAB_SIZE) for _ in range(num_rows)]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Logits of order 10 differ by at most `tolerance`; NaN differs from all."""
    assert [len(rows) for rows in found] == [len(rows) for rows in expected]
    size, worst = flat(expected).abs().max(), (flat(found) - flat(expected)).abs().max()
    assert 1.5 < size < 60, f"logits of order {size:.1f} make no test"
    assert worst <= tolerance, f"logits of order {size:.1f} differ by {worst:.1e}"


@pytest.fixture(scope="session")
def make_trial() -> Callable[[nn.Module, Oracle], Trial]:
    return Trial


@pytest.fixture(scope="session")
def fill_randomly() -> Callable[..., None]:
    return randomize
