"""Labels of texts and of their tokens, from a network whose head has labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seedbed.generation.embedding import batches
from seedbed.models.family import Network
from seedbed.models.transformer import Transformer
from seedbed.nn.config import HeadConfig
from seedbed.nn.layout import Layout


@dataclass(frozen=True)
class Classification:
    """The most likely label of a text, and the score of each label.

    Scores are probabilities that sum to 1, or independent ones where several labels may apply; a head with
    one label is a regression, whose score is the number itself.
    """

    label: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Tag:
    """A token's most likely label with its probability, and its characters from start to end.

    For token ids without a text, the text is None, and start and end are the token's own position.
    """

    text: str | None
    label: str
    score: float
    start: int
    end: int


def classified(head: HeadConfig, logits: Tensor) -> Classification:
    """The classification by the logits (labels,) of a row."""
    scores = _probabilities(head, logits).tolist()
    best = max(range(len(scores)), key=scores.__getitem__)
    return Classification(head.labels[best], dict(zip(head.labels, scores, strict=True)))


def tagged(
    head: HeadConfig, logits: Tensor, ids: Sequence[int], spans: Sequence[tuple[int, int]], text: str | None
) -> list[Tag]:
    """The tags by the logits (tokens, labels) of a row, of the tokens with characters in its text."""
    scores, best = _probabilities(head, logits).max(-1)
    places = spans if text is not None else [(i, i + 1) for i in range(len(ids))]
    found = zip(places, best.tolist(), scores.tolist(), strict=True)
    return [
        Tag(None if text is None else text[start:end], head.labels[label], score, start, end)
        for (start, end), label, score in found
        if end > start
    ]


@torch.no_grad()
def label_rows(
    module: Network, rows: Sequence[Sequence[int]], *, start_ids: Sequence[int] = ()
) -> list[Tensor]:
    """The logits of rows of tokens: (labels,) of each for classes, (tokens, labels) of each for tags."""
    assert isinstance(module, Transformer)
    found: dict[int, Tensor] = {}
    for members, ids, layout in batches(rows, module.device):
        if module.config.head.kind == "classification":
            logits: Sequence[Tensor] = row_logits(module, ids, layout, start_ids=start_ids).unbind()
        else:
            logits = module.output(module(ids, layout)).split(layout.lengths)
        found |= dict(zip(members, logits, strict=True))
    return [found[r] for r in range(len(rows))]


@torch.no_grad()
def row_logits(
    module: Network,
    ids: Tensor,
    layout: Layout,
    *,
    start_ids: Sequence[int] = (),
    segments: Tensor | None = None,
) -> Tensor:
    """Logits (rows, labels) of the classes of flat ids (N,), none of the rows empty.

    An encoder-decoder's decoder reads the row again, shifted: after `start_ids`, without the last token
    (BART, 1910.13461, 3.2).
    """
    assert isinstance(module, Transformer)
    if module.config.shape != "encoder-decoder":
        return module.classify(module(ids, layout, segments=segments), layout)
    starts = ids.new_tensor(start_ids)
    shifted = torch.cat([part for row in ids.split(layout.lengths) for part in (starts, row[:-1])])
    return module.classify(module(shifted, layout, source=ids, source_layout=layout), layout)


def _probabilities(head: HeadConfig, logits: Tensor) -> Tensor:
    """(..., labels) -> (..., labels)."""
    if head.kind == "classification" and len(head.labels) == 1:
        return logits.float()
    return logits.float().sigmoid() if head.several_labels else logits.float().softmax(-1)
