"""Blanks filled by an encoder-decoder: it reads the text with its gaps, and writes what stands in them.

A span model (T5: Raffel et al. 1910.10683, section 3.1.4) reads a sentinel in each blank and writes
`<extra_id_0> span <extra_id_1> span ...`; a denoising model (BART: Lewis et al. 1910.13461, section 2.2)
reads a mask in each and writes the whole text again. Both are one search: the decoder is made to read what
stands before a blank, the sentinel or the text with the best candidates of the blanks before it; beams of
ordinary tokens go on from there; and a candidate is a beam that is closed by what has to follow. So no answer
can lack a sentinel, double one or write it out of turn, nor can it change the user's text.

Letters: B beams, V vocabulary, M d_model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.generation.beam import continuations
from seedbed.generation.filling import Candidate, Filled, Filler, MaskFiller, require_count
from seedbed.generation.sampling import check_finite
from seedbed.generation.scoring import target_logprobs
from seedbed.models.family import Network
from seedbed.models.network import FAMILIES, family
from seedbed.nn.layout import Layout
from seedbed.nn.state import DecodeState
from seedbed.text.blanks import BlankedText, BlankEncoder
from seedbed.text.special_form import BLANK_KEY
from seedbed.text.tokenizer import Tokenizer

MAX_NEW_TOKENS = 16  # of a blank, where none are given
NUM_BEAMS = 8  # that a search has at least; more where more candidates are asked for
CLOSING_TOKENS = 4  # of the text after a blank, that a denoising model has to go on with


class Gap(NamedTuple):
    """A blank as the decoder comes to it."""

    before: tuple[int, ...]  # what it reads after the candidate in the gap before, at least one token
    closings: tuple[tuple[int, ...], ...]  # what may close it, one of them


class Found(NamedTuple):
    """A closed beam, and the log-probability of its tokens and what closes them."""

    token_ids: tuple[int, ...]
    logprob: float


def filler_of(
    module: Network,
    tokenizer: Tokenizer | None,
    *,
    start_ids: Callable[[], Sequence[int]],
    eos_ids: Sequence[int],
    blank: object = None,
) -> Filler:
    """What fills blanks with this network, refused with a UsageError where nothing does.

    `start_ids` gives what an encoder-decoder's answers start with, `eos_ids` end them. `blank` is what its
    files say that a blank becomes for it, "sentinels" or "mask"; where they say nothing, the one that its
    tokenizer has, of both the sentinels (CodeT5 has a mask, which it was not pre-trained with).
    """
    _require_filling(module)
    if tokenizer is None:
        raise UsageError(
            "filling blanks needs a tokenizer, and this model has none; put the tokenizer.json of its "
            "training beside its config.json"
        )
    if module.config.head.kind == "mlm":
        return MaskFiller(module, BlankEncoder(tokenizer))
    sentinels = _sentinels(tokenizer, blank)
    encoder = BlankEncoder(tokenizer, sentinels=sentinels, whole_gaps=True)
    return GapFiller(module, encoder, rewrites=not sentinels, start_ids=start_ids(), eos_ids=eos_ids)


def _sentinels(tokenizer: Tokenizer, blank: object) -> tuple[int, ...]:
    """The sentinels that blanks become for an encoder-decoder, none where they become masks."""
    held = {"sentinels": bool(tokenizer.sentinel_ids), "mask": tokenizer.mask_id is not None}
    if not any(held.values()):
        raise UsageError(
            "an encoder-decoder fills blanks through sentinels <extra_id_0>, <extra_id_1> ... or through a "
            "mask token, and this model's tokenizer has neither; take a model that was trained to fill gaps, "
            "or let it answer a prompt (`generate`)"
        )
    if blank is not None and not held.get(str(blank)):
        raise UsageError(
            f"generation_config.json says that a blank becomes {str(blank)[:40]!r} ({BLANK_KEY}), and this "
            f"model's tokenizer has only: {', '.join(name for name, has in held.items() if has)}; take the "
            "tokenizer of its training, or name what it has there"
        )
    return () if blank == "mask" else tokenizer.sentinel_ids


def _require_filling(module: Network) -> None:
    """Refuse a network that fills no blanks, by its head and its shape."""
    config = module.config
    if config.head.kind == "mlm" or (config.shape == "encoder-decoder" and config.head.kind == "lm"):
        return
    can = [name for name in FAMILIES.names() if family(name).sized(64, 1).head.kind == "mlm"]
    advice = f"take a masked model ({' or '.join(can)}) or an encoder-decoder trained to fill gaps"
    if config.shape == "decoder":
        problem = f"this {config.family} is a decoder, which reads only what stands before a blank"
        instead = "let it go on after a text (`generate`)"
    else:
        head = "masked head" if config.shape == "encoder" else "head that writes"
        problem, instead = f"this {config.family} has no {head}", "the file of this model that has one"
    raise UsageError(f"{problem}, so it fills none; {advice}, or {instead}")


class GapFiller(Filler):
    """An encoder-decoder that writes what stands in gaps, each with the best candidates of those before it.

    `rewrites`: it writes the whole text again, else sentinels with their spans.
    """

    def __init__(
        self,
        module: Network,
        encoder: BlankEncoder,
        *,
        rewrites: bool,
        start_ids: Sequence[int],
        eos_ids: Sequence[int],
    ) -> None:
        self.encoder, self._module, self._rewrites = encoder, module, rewrites
        self._start_ids, self._eos_ids = tuple(start_ids), tuple(eos_ids)
        self._ordinary = frozenset(encoder.fillers) - {*eos_ids}
        self._barred = torch.full((module.config.vocab_size,), -torch.inf)  # (V,)
        self._barred[sorted(self._ordinary)] = 0

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[BlankedText], *, num_candidates: int, max_new_tokens: int | None
    ) -> list[Filled]:
        """Fill the blanks of texts with candidates of 0 to max_new_tokens tokens, 16 where None.

        A candidate's probability is that of all its tokens and of what closes it: the next sentinel or an end
        token of a span model; of a denoising model the first 4 tokens of the text up to the next blank.
        Neither is divided by anything, so those of a blank sum to less than 1. Of candidates with one text
        the likeliest stands for all.
        """
        num_tokens = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        require_count("max_new_tokens", num_tokens)
        plans = [(text, self._gaps(text)) for text in texts]
        for text, gaps in plans:
            self._check_room(text, gaps, num_tokens)
        return [self._fill(text, gaps, num_candidates, num_tokens) for text, gaps in plans]

    def _gaps(self, text: BlankedText) -> list[Gap]:
        """The blanks of a text in turn."""
        if not self._rewrites:
            num, ends = len(text.places), dict.fromkeys(self._eos_ids)
            marks = self.encoder.marks(num + 1)  # there may be none left for what follows the last span
            gaps = [Gap((marks[k],), tuple((i,) for i in (*marks[k + 1 : k + 2], *ends))) for k in range(num)]
        else:
            ends_of_parts = [*text.places, len(text.ids)]
            starts = [0, *(place + 1 for place in text.places)]
            parts = [text.ids[a:b] for a, b in zip(starts, ends_of_parts, strict=True)]
            if not all(parts[1:-1]):
                raise UsageError(
                    "two blanks stand side by side, and this model, which writes the whole text again, "
                    "cannot tell where the first of them ends; write one blank for both"
                )
            closings = [tuple(filter(None, [part[:CLOSING_TOKENS]])) for part in parts[1:]]
            gaps = [Gap(part, closing) for part, closing in zip(parts, closings, strict=False)]
        if not all(gap.closings for gap in gaps):
            raise UsageError(
                "this model names no token that ends a text, so nothing ends the last blank; put "
                "eos_token_id into its generation_config.json"
            )
        return [gaps[0]._replace(before=(*self._start_ids, *gaps[0].before)), *gaps[1:]]

    def _check_room(self, text: BlankedText, gaps: Sequence[Gap], num_tokens: int) -> None:
        """Refuse a text whose blanks, all of them full, are more than the decoder's context holds."""
        most = self._module.config.max_positions
        # What closes the last blank is read but for its last token.
        longest = sum(len(gap.before) for gap in gaps) + num_tokens * len(gaps)
        longest += max(map(len, gaps[-1].closings)) - 1
        if most is not None and longest > most:
            raise UsageError(
                f"with {num_tokens} tokens in each of its {len(gaps)} blanks a text has {longest}, but the "
                f"context holds {most}; give a smaller max_new_tokens or a shorter text"
            )

    def _fill(self, text: BlankedText, gaps: Sequence[Gap], num_candidates: int, num_tokens: int) -> Filled:
        """Fill the blanks of one text, the first one first."""
        device = self._module.device
        capacity = sum(len(gap.before) for gap in gaps) + num_tokens * len(gaps) + CLOSING_TOKENS
        source: dict[str, Any] = {
            "source": torch.tensor(text.ids, device=device),
            "source_layout": Layout.of([len(text.ids)], device=device),
        }
        state: DecodeState = self._module.start(1, capacity, **source)
        fills, blanks = list[list[int]](), list[list[Candidate]]()
        for place, gap in zip(text.places, gaps, strict=True):
            before = (*(fills[-1] if fills else ()), *gap.before)
            read = torch.tensor(before, device=device)
            hidden = self._module.extend(state, read, state.layout([len(before)]))[-1:]
            beside = self._beside(text, fills, place)
            found = self._search(
                state, hidden, gap, beside, num_candidates=num_candidates, num_tokens=num_tokens
            )
            blanks.append([Candidate(name, [*f.token_ids], math.exp(f.logprob)) for name, f in found])
            fills.append(blanks[-1][0].token_ids)
        return Filled(self.encoder.fill(text, fills), blanks)

    def _beside(self, text: BlankedText, fills: Sequence[Sequence[int]], place: int) -> Callable[..., str]:
        """The text that tokens are in the blank at a place of a text, the blanks before it filled."""
        spans = dict(zip(text.places, fills, strict=False))
        before = chain(*(spans.get(at, [i]) for at, i in enumerate(text.ids[:place])))
        last = [i for i in before if i in self._ordinary][-1:]
        return lambda token_ids: self.encoder.piece(last, token_ids)

    def _search(
        self,
        state: DecodeState,
        hidden: Tensor,
        gap: Gap,
        beside: Callable[..., str],
        *,
        num_candidates: int,
        num_tokens: int,
    ) -> list[tuple[str, Found]]:
        """The best candidates with their texts, after a state of one row with its last hidden state (1, M).

        A beam is left when its probability is below that of all num_candidates found, since more tokens can
        only lessen it. The state is as before in the end.
        """
        state.select([0, 0])  # row 0 rests: it is what the search goes back to
        beams: list[tuple[int, ...]] = [()]
        barred, scores = self._barred.to(hidden.device), hidden.new_zeros(1, dtype=torch.float32)
        found: dict[str, Found] = {}
        for length in range(num_tokens + 1):
            logprobs = self._module.output(hidden).float().log_softmax(-1)  # (B, V)
            closed = (scores + self._closing(state, logprobs, gap)).tolist()
            check_finite(closed)
            for token_ids, logprob in zip(beams, closed, strict=True):
                text = beside(token_ids)
                if text not in found or logprob > found[text].logprob:
                    found[text] = Found(token_ids, logprob)
            best = sorted(found.items(), key=lambda item: -item[1].logprob)[:num_candidates]
            worst = best[-1][1].logprob if len(best) == num_candidates else -math.inf
            if length == num_tokens:
                break
            width = max(NUM_BEAMS, num_candidates)
            (running,) = continuations((logprobs + barred)[None], scores[None], width)
            running = [c for c in running if c.logprob > worst]
            if not running:
                break
            state.select([0, *(1 + c.beam for c in running)])
            ids = torch.tensor([c.token_id for c in running], device=hidden.device)
            hidden = self._module.extend(state, ids, state.layout([0] + [1] * len(running)))
            beams = [(*beams[c.beam], c.token_id) for c in running]
            scores = scores.new_tensor([c.logprob for c in running])
        state.select([0])
        return best

    def _closing(self, state: DecodeState, logprobs: Tensor, gap: Gap) -> Tensor:
        """The log-probability (B,) that one of the gap's closings follows, from that (B, V) of a token."""
        num, parts = len(logprobs), []
        for first, *more in gap.closings:
            part = logprobs[:, first]
            if more:
                start, read = state.snapshot(), [first, *more[:-1]]
                layout = state.layout([0] + [len(read)] * num)
                hidden = self._module.extend(state, torch.tensor(read * num, device=part.device), layout)
                state.rollback(start)
                wanted = torch.tensor(more * num, device=part.device)
                part = part + target_logprobs(self._module, hidden, wanted).view(num, -1).sum(1)
            parts.append(part)
        return torch.stack(parts).logsumexp(0)
