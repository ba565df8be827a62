"""Blanks filled by a model that reads what stands before and after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.generation.sampling import check_finite
from seedbed.generation.scoring import LOGIT_NUMBERS, passes
from seedbed.models.family import Config, Network
from seedbed.models.network import FAMILIES, family
from seedbed.nn.layout import Layout
from seedbed.text.blanks import MaskedText, MaskEncoder


@dataclass(frozen=True)
class Candidate:
    """What may stand in a blank: its tokens, their text alone, and how probable the model finds them."""

    text: str
    token_ids: list[int]
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text with the likeliest candidate in each blank, and the candidates for each, likeliest first."""

    text: str
    blanks: list[list[Candidate]]


def require_masked(config: Config) -> None:
    """Refuse with a UsageError a network without a masked model's head, and say what it can do instead."""
    if config.head.kind == "mlm":
        return
    can = [name for name in FAMILIES.names() if family(name).sized(64, 1).head.kind == "mlm"]
    if config.shape == "encoder":
        problem, instead = f"this {config.family} has no masked head", "the file of this model that has one"
    else:
        article = "an" if config.shape.startswith("e") else "a"
        problem = f"this {config.family} is {article} {config.shape}"
        instead = "let it answer a prompt (`generate`)"
    raise UsageError(
        f"blanks are filled by a masked model with its head, and {problem}; take one of {' or '.join(can)}, "
        f"or {instead}"
    )


@torch.inference_mode()
def fill_masks(
    module: Network, encoder: MaskEncoder, texts: Sequence[MaskedText], *, num_candidates: int
) -> list[Filled]:
    """Fill the blanks of texts, each as if the others stayed blank; texts are read together.

    A candidate's probability is the model's, over its whole vocabulary; control tokens are left out of the
    candidates, not of the probabilities.
    """
    device = next(module.parameters()).device
    fillers = torch.tensor(encoder.fillers, device=device)
    lengths = [len(text.ids) for text in texts]
    found: dict[int, Filled] = {}
    for members in passes(sorted(range(len(texts)), key=lengths.__getitem__, reverse=True), lengths):
        layout = Layout.of([lengths[m] for m in members], device=device)
        ids = torch.tensor([*chain(*(texts[m].ids for m in members))], device=device)
        starts = (end - n + 1 for end, n in zip(layout.last_tokens(), layout.lengths, strict=True))
        at = [start + place for start, m in zip(starts, members, strict=True) for place in texts[m].places]
        hidden = module(ids, layout)[torch.tensor(at, device=device)]
        best = iter(_candidates(module, hidden, fillers, num_candidates))
        for m in members:
            blanks = [[Candidate(encoder.text(i), [i], p) for i, p in next(best)] for _ in texts[m].places]
            text = encoder.fill(texts[m], [blank[0].token_ids[0] for blank in blanks])
            found[m] = Filled(text, blanks)
    return [found[m] for m in range(len(texts))]


def _candidates(
    module: Network, hidden: Tensor, fillers: Tensor, num_candidates: int
) -> list[list[tuple[int, float]]]:
    """The likeliest of the tokens `fillers` (F,) at hidden states (N, M), with their probabilities."""
    num = min(num_candidates, len(fillers))
    found: list[list[tuple[int, float]]] = []
    for some in hidden.split(max(1, LOGIT_NUMBERS // module.config.vocab_size)):
        probabilities = module.output(some).float().softmax(-1)  # (N, V)
        values, best = probabilities[:, fillers].topk(num)
        for row, ids in zip(values.tolist(), fillers[best].tolist(), strict=True):
            check_finite(row)
            found.append(list(zip(ids, row, strict=True)))
    return found
