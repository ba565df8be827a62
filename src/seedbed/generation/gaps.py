"""Blanks filled by a model that writes any number of tokens for each.

A span model (T5: Raffel et al. 1910.10683, section 3.1.4) reads a sentinel in each blank and writes
`<extra_id_0> span <extra_id_1> span ...`; a denoising model (BART: Lewis et al. 1910.13461, section 2.2)
reads a mask in each and writes the whole text again; a decoder trained to fill in the middle (Bavarian et al.
2207.14255) reads the text around its one blank and writes the blank's. All three are one search: the decoder
reads what comes before a blank, with the best candidates of earlier ones; beams of ordinary tokens continue
from there; a candidate is a beam and the tokens that close its blank. So sentinels and text stay as they are.

Letters: B beams, V vocabulary, M d_model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.data.objective import OBJECTIVES
from seedbed.generation.beam import continuations
from seedbed.generation.filling import Candidate, Filled, MaskFiller, require_count
from seedbed.generation.sampling import check_finite
from seedbed.generation.scoring import source_inputs, target_logprobs
from seedbed.models.family import Network
from seedbed.models.network import FAMILIES, family
from seedbed.nn.state import DecodeState
from seedbed.text.blanks import BlankedText, InfillPrompt, MarkedBlanks, infill_ids
from seedbed.text.special_form import AFTER, BEFORE, BLANK_KEY
from seedbed.text.tokenizer import Tokenizer

MAX_NEW_TOKENS = 16  # of a blank, by default
NUM_BEAMS = 8  # at least; as many as candidates where these are more
CLOSING_TOKENS = 4  # of the text after a blank, which a denoising model must write after a candidate


class Gap(NamedTuple):
    """A blank in the order of the decoder."""

    before: tuple[int, ...]  # read after the candidate of the gap before, at least one token
    closings: tuple[tuple[int, ...], ...]  # one of them closes the blank


def filler_of(
    module: Network,
    tokenizer: Tokenizer | None,
    *,
    start_ids: Callable[[], Sequence[int]],
    eos_ids: Sequence[int],
    blank: object = None,
) -> MaskFiller | GapFiller:
    """Return the way in which this network fills blanks; UsageError where it fills none.

    `start_ids` returns what an encoder-decoder's answers start with; `blank` is the value of BLANK_KEY in the
    model's files. Without it an encoder-decoder uses its sentinels, else its mask (CodeT5 was not pre-trained
    with its mask), and a decoder the prompt of the objective whose special tokens its tokenizer has.
    """
    shape, kind = module.config.shape, module.config.head.kind
    if kind != "mlm" and (kind != "lm" or shape == "encoder"):
        head = "masked head" if shape == "encoder" else "head that writes"
        raise _fills_none(f"this {module.config.family} has no {head}", "the file of this model that has one")
    template = _infill_template(module, tokenizer, blank) if kind == "lm" and shape == "decoder" else ""
    if tokenizer is None:
        raise UsageError(
            "filling blanks needs a tokenizer, and this model has none; put the tokenizer.json of its "
            "training beside its config.json"
        )
    if kind == "mlm":
        return MaskFiller(module, MarkedBlanks(tokenizer))
    if template:
        return GapFiller(module, InfillPrompt(tokenizer, template), eos_ids=eos_ids)
    encoder = MarkedBlanks(tokenizer, sentinels=_sentinels(tokenizer, blank), whole_gaps=True)
    return GapFiller(module, encoder, start_ids=start_ids(), eos_ids=eos_ids)


def _infill_template(module: Network, tokenizer: Tokenizer | None, blank: object) -> str:
    if isinstance(blank, str) and BEFORE in blank:
        return blank
    if blank is not None:
        raise UsageError(
            f"generation_config.json says that a blank becomes {str(blank)[:40]!r} ({BLANK_KEY}), and this "
            f"model is a decoder, which needs a prompt with {BEFORE} and {AFTER}; correct it, or remove it"
        )
    for template in _infill_templates().values():
        if tokenizer is not None and infill_ids(tokenizer, template) is not None:
            return template
    raise _fills_none(
        f"this {module.config.family} is a decoder, which reads only what stands before a blank",
        "let it continue a text (`generate`)",
    )


def _infill_templates() -> dict[str, str]:
    """The prompts of the objectives whose decoders fill blanks, by the names of these."""
    found = {name: OBJECTIVES.get(name).infill for name in OBJECTIVES.names()}
    return {name: template for name, template in found.items() if template is not None}


def _fills_none(problem: str, instead: str) -> UsageError:
    masked = [name for name in FAMILIES.names() if family(name).sized(64, 1).head.kind == "mlm"]
    infilling = _infill_templates()
    trained = f", a decoder trained with {' or '.join(infilling)}" if infilling else ""
    return UsageError(
        f"{problem}, so it fills no blanks; use a masked model ({' or '.join(masked)}){trained} or an "
        f"encoder-decoder trained to fill gaps, or {instead}"
    )


def _sentinels(tokenizer: Tokenizer, blank: object) -> tuple[int, ...]:
    has = {"sentinels": bool(tokenizer.sentinel_ids), "mask": tokenizer.mask_id is not None}
    if not any(has.values()):
        raise UsageError(
            "an encoder-decoder fills blanks through sentinels <extra_id_0>, <extra_id_1> ... or through a "
            "mask token, and this model's tokenizer has neither; use a model that was trained to fill gaps, "
            "or let it answer a prompt (`generate`)"
        )
    if blank is not None and not has.get(str(blank)):
        raise UsageError(
            f"generation_config.json says that a blank becomes {str(blank)[:40]!r} ({BLANK_KEY}), and this "
            f"model's tokenizer has only: {', '.join(name for name, held in has.items() if held)}; use the "
            "tokenizer of its training, or name what it has there"
        )
    return () if blank == "mask" else tokenizer.sentinel_ids


class GapFiller:
    """A decoder or an encoder-decoder that writes the tokens of blanks, the first blank first."""

    def __init__(
        self,
        module: Network,
        encoder: MarkedBlanks | InfillPrompt,
        *,
        start_ids: Sequence[int] = (),
        eos_ids: Sequence[int],
    ) -> None:
        self.encoder, self._module = encoder, module
        self._start_ids, self._eos_ids = tuple(start_ids), tuple(eos_ids)
        self._ordinary = frozenset(encoder.fillers) - {*eos_ids}
        self._barred = torch.full((module.config.vocab_size,), -torch.inf)  # (V,)
        self._barred[sorted(self._ordinary)] = 0

    @torch.inference_mode()
    def fill(
        self, texts: Sequence[BlankedText], *, num_candidates: int, max_new_tokens: int | None
    ) -> list[Filled]:
        """Fill the blanks of texts with candidates of 0 to max_new_tokens tokens, 16 where None.

        A candidate's probability, not normalized, is that of its tokens and of what closes the blank: an end
        token, or the next sentinel of a span model; for a denoising model the first 4 tokens after the blank.
        Of candidates with the same text the most likely one is kept.
        """
        num_tokens = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        require_count("max_new_tokens", num_tokens)
        plans = [(text, self._gaps(text)) for text in texts]
        for _, gaps in plans:
            self._check_length(gaps, num_tokens)
        return [self._fill(text, gaps, num_candidates, num_tokens) for text, gaps in plans]

    def _gaps(self, text: BlankedText) -> list[Gap]:
        num, encoder = len(text.places), self.encoder
        ends = tuple((i,) for i in dict.fromkeys(self._eos_ids))
        if isinstance(encoder, InfillPrompt):
            gaps = [Gap(text.ids, ends)]
        elif marks := encoder.sentinels(num + 1):  # there may be none left after the last span
            gaps = [Gap((marks[k],), (*((i,) for i in marks[k + 1 : k + 2]), *ends)) for k in range(num)]
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

    def _check_length(self, gaps: Sequence[Gap], num_tokens: int) -> None:
        most = self._module.config.max_positions
        # The decoder reads what closes the last blank, except its last token.
        longest = sum(len(gap.before) for gap in gaps) + num_tokens * len(gaps)
        longest += max(map(len, gaps[-1].closings)) - 1
        if most is not None and longest > most:
            raise UsageError(
                f"with {num_tokens} tokens in each of its {len(gaps)} blanks the text has {longest} tokens, "
                f"and the context of this model has {most}; set a smaller max_new_tokens or shorten the text"
            )

    def _fill(self, text: BlankedText, gaps: Sequence[Gap], num_candidates: int, num_tokens: int) -> Filled:
        module = self._module
        capacity = sum(len(gap.before) for gap in gaps) + num_tokens * len(gaps) + CLOSING_TOKENS
        source = [text.ids] if module.config.shape == "encoder-decoder" else []
        state: DecodeState = module.start(1, capacity, **source_inputs(source, module.device))
        fills, blanks = list[list[int]](), list[list[Candidate]]()
        for place, gap in zip(text.places, gaps, strict=True):
            before = (*(fills[-1] if fills else ()), *gap.before)
            read = torch.tensor(before, device=module.device)
            hidden = module.extend(state, read, state.layout([len(before)]))[-1:]
            spans = dict(zip(text.places, fills, strict=False))
            ids = chain(*(spans.get(at, [i]) for at, i in enumerate(text.ids[:place])))
            last = [i for i in ids if i in self._ordinary][-1:]
            text_of = partial(self.encoder.added_text, last)
            blanks.append(self._search(state, hidden, gap, text_of, num_candidates, num_tokens))
            fills.append(blanks[-1][0].token_ids)
        return Filled(self.encoder.fill(text, fills), blanks)

    def _search(
        self,
        state: DecodeState,
        hidden: Tensor,
        gap: Gap,
        text_of: Callable[[Sequence[int]], str],
        num_candidates: int,
        num_tokens: int,
    ) -> list[Candidate]:
        """Return the best candidates of a gap, after a state of one row with hidden state (1, M).

        A beam is dropped when its probability is below that of all num_candidates found, since more tokens
        can only lower it. The state is restored at the end.
        """
        state.select([0, 0])  # row 0 stays idle: the search returns to it
        beams: list[tuple[int, ...]] = [()]
        barred, scores = self._barred.to(hidden.device), hidden.new_zeros(1, dtype=torch.float32)
        found: dict[str, tuple[float, tuple[int, ...]]] = {}  # log-probability and tokens of each text
        for length in range(num_tokens + 1):
            logprobs = self._module.output(hidden).float().log_softmax(-1)  # (B, V)
            closed = (scores + self._closing(state, logprobs, gap)).tolist()
            check_finite(closed)
            for token_ids, logprob in zip(beams, closed, strict=True):
                text = text_of(token_ids)
                if text not in found or logprob > found[text][0]:
                    found[text] = (logprob, token_ids)
            best = sorted(found.items(), key=lambda item: -item[1][0])[:num_candidates]
            worst = best[-1][1][0] if len(best) == num_candidates else -math.inf
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
        return [Candidate(text, [*ids], math.exp(logprob)) for text, (logprob, ids) in best]

    def _closing(self, state: DecodeState, logprobs: Tensor, gap: Gap) -> Tensor:
        """Return the log-probability (B,) of the gap's closings, from that of the next token (B, V)."""
        num, parts = len(logprobs), []
        for first, *more in gap.closings:
            part = logprobs[:, first]
            if more:
                start, read = state.snapshot(), [first, *more[:-1]]
                layout = state.layout([0] + [len(read)] * num)
                hidden = self._module.extend(state, torch.tensor(read * num, device=part.device), layout)
                state.rollback(start)
                targets = torch.tensor(more * num, device=part.device)
                more_logprobs, _ = target_logprobs(self._module, hidden, targets)
                part = part + more_logprobs.view(num, -1).sum(1)
            parts.append(part)
        return torch.stack(parts).logsumexp(0)
