"""Requests that are answered together: a set of rows and a `step` that advances them all.

A batch call submits requests and steps until all are finished, a stream takes text after each step, a server
submits while others run. An answer depends on its neighbours only through the last bits of logits, since a
matmul of another size sums in another order: tokens that are equally likely to within rounding may change.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import chain, takewhile

import torch
from torch import Tensor

from seedbed.generation import beam
from seedbed.generation.answer import Answer
from seedbed.generation.repetition import History, discourage
from seedbed.generation.request import Request
from seedbed.generation.rows import Row, Rows, evaluating, require_memory
from seedbed.generation.sampling import Limits, check_finite, force, sample_each, token_logprobs
from seedbed.models.family import Network
from seedbed.text.stream import WINDOW, TextStream
from seedbed.text.tokenizer import Tokenizer


class Engine:
    """Answers requests with one network, many at once.

    `limits` are those of Rows. `prefix_ids` are read once for all prompts of a decoder that begin with them.
    `eos_ids` end an answer whose settings name none; as in `transformers`, one of `forced_bos_ids` follows a
    prompt of one token, and one of `forced_eos_ids` is the last of max_new_tokens.
    """

    def __init__(
        self,
        module: Network,
        tokenizer: Tokenizer | None = None,
        *,
        eos_ids: Sequence[int] = (),
        forced_bos_ids: Sequence[int] = (),
        forced_eos_ids: Sequence[int] = (),
        prefix_ids: Sequence[int] = (),
        **limits: int,
    ) -> None:
        self.module, self.tokenizer = module, tokenizer
        self._eos_ids = tuple(eos_ids)
        self._forced_bos, self._forced_eos = tuple(forced_bos_ids), tuple(forced_eos_ids)
        self._prefix = tuple(prefix_ids)
        self._rows = Rows(module, prefix=self._prefix, **limits)

    @property
    def is_busy(self) -> bool:
        """Some answer is not finished."""
        return self._rows.is_busy

    def submit(self, request: Request) -> list[Answer]:
        """Accept a request -> its answers, to which `step` adds tokens; UsageError for an invalid one."""
        request.check(self.module.config, has_tokenizer=self.tokenizer is not None)
        prompt, settings, max_tokens = request.prompt_ids, request.settings, request.settings.max_new_tokens
        if (max_positions := self.module.config.max_positions) is not None:
            # A full context still predicts one token.
            max_tokens = min(max_tokens, max(1, max_positions - len(prompt)))
        seed = secrets.randbits(63) if settings.seed is None else settings.seed
        eos_ids = frozenset(self._eos_ids if settings.eos_ids is None else settings.eos_ids)
        first_ids = self._forced_bos if len(prompt) == 1 else ()
        limits = Limits(max_tokens, eos_ids, first_ids, self._forced_eos)
        is_search = (settings.num_beams or 1) > 1
        history = History.of(prompt, settings, vocab_size=self.module.config.vocab_size)
        capacity = len(prompt) + max_tokens - 1  # the last token is not read
        name = "num_beams" if is_search else "num_samples"
        require_memory(self.module, name, getattr(settings, name), num_tokens=capacity)
        answers = [
            Answer(
                request,
                seed=seed,
                sample_index=index,
                limits=limits,
                history=None if is_search or history is None else history.fork(),
                stream=self._stream(prompt),
            )
            for index in range(settings.num_samples)
        ]
        beams = beam.Beams(settings, limits, history) if is_search else None
        own = prompt if is_search or len(answers) == 1 else prompt[:-1]
        start = len(self._prefix)
        begins = (
            0 < start < len(own) and own[:start] == self._prefix and not (is_search or request.source_ids)
        )
        self._rows.add(Row(own[start:] if begins else own, answers, capacity, beams, has_prefix=begins))
        return answers

    def _stream(self, prompt: Sequence[int]) -> TextStream | None:
        """The decoder of an answer, which continues the text behind the prompt's last special token."""
        if self.tokenizer is None:
            return None
        stream, special = self.tokenizer.stream(), self.tokenizer.special_ids
        stream.begin_after([*takewhile(lambda i: i not in special, reversed(prompt[-WINDOW:]))][::-1])
        return stream

    @torch.inference_mode()
    def cancel(self, answer: Answer) -> None:
        """End an answer where it is; the others continue."""
        answer.end("cancelled")
        self._rows.remove_cancelled()

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        """Advance all rows by a token, or by a chunk of their prompts -> the answers with a new token."""
        self._rows.admit()
        if not self._rows.running:
            return []
        with evaluating(self.module):
            readers, hidden = self._rows.read()
            if not readers:
                return []
            logits = self.module.output(hidden).float()  # (R, V)
        searches = any(row.beams is not None for row in readers)
        answers = (self._search if searches else self._advance)(readers, logits)
        self._rows.remove_finished()
        return answers

    def _advance(self, readers: Sequence[Row], logits: Tensor) -> list[Answer]:
        """Sample each reader's next token from its logits (R, V) -> the answers."""
        answers = [row.answers[0] for row in readers]
        scores = discourage(logits, [answer.history for answer in answers])
        if self._forced_bos or self._forced_eos:
            scores = force(scores, [answer.forced_ids for answer in answers])
        samplings = [answer.sampling for answer in answers]
        tokens, scores = sample_each(scores, samplings, keys=[answer.sample_key for answer in answers])
        sampled = tokens.tolist()  # the only synchronization with the device
        check_finite(scores.tolist())
        logprobs = token_logprobs(logits, tokens, sampled, [answer.num_logprobs for answer in answers])
        for row, answer, token, logprob in zip(readers, answers, sampled, logprobs, strict=True):
            row.pending = (token,)
            answer.push(token, logprob)
        self._rows.keep_sampled(tokens)
        return answers

    def _search(self, readers: Sequence[Row], logits: Tensor) -> list[Answer]:
        """Sample from plain rows and advance beams -> the answers with new tokens, a search's at its end."""
        plain = [i for i, row in enumerate(readers) if row.beams is None]
        answers = self._advance([readers[i] for i in plain], logits[plain]) if plain else []
        members: dict[beam.Beams, list[int]] = {}
        for i, row in enumerate(readers):
            if row.beams is not None:
                members.setdefault(row.beams, []).append(i)
        searches, at = list(members), list(chain(*members.values()))
        histories = list(chain(*(search.histories[: len(rows)] for search, rows in members.items())))
        forced = list(chain(*([search.forced_ids] * len(rows) for search, rows in members.items())))
        scores = force(discourage(logits[at].log_softmax(-1), histories), forced)
        logprobs = scores.split([len(rows) for rows in members.values()])
        running_rows = self._rows.running
        first = {row.beams: r for r, row in reversed(list(enumerate(running_rows)))}
        sources = list(range(len(running_rows)))
        for search, running in zip(searches, beam.advance(searches, logprobs), strict=True):
            r = first[search]
            check_finite([c.logprob for c in running] or [search.hypotheses[0].score])
            for place, (_, parent, token) in enumerate(running):
                running_rows[r + place].pending = (token,)
                sources[r + place] = r + parent if search.num_tokens > 1 else r  # at first one row read all
            if search.is_done:
                for answer in running_rows[r].answers:
                    for token in search.hypotheses[answer.sample_index].token_ids:
                        answer.push(token)
                    answer.end("length")  # unless an end token ended it
                    answers.append(answer)
        self._rows.select(list(running_rows), sources)
        return answers
