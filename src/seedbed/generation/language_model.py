"""A network with its tokenizer: what a user holds."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.generation.answer import Answer
from seedbed.generation.engine import Engine, evaluating
from seedbed.generation.request import Completion, GenerationSettings, Request, Score, TokenLogprob
from seedbed.generation.scoring import score_rows
from seedbed.hub.bundle import save_bundle
from seedbed.models.family import Config, Network
from seedbed.nn.layout import Layout, restore
from seedbed.text.chat_template import ChatTemplate, Message
from seedbed.text.tokenizer import Tokenizer

__all__ = ["Completion", "LanguageModel", "Score", "TokenLogprob"]

Prompt = str | Sequence[int]


class LanguageModel:
    """A causal language model: give it text or token ids.

    `generation` is what a bundle's `generation_config.json` says: its `eos_token_id` (one or several) ends
    answers, else the tokenizer's. Without a tokenizer token ids work, and what needs text says so.
    """

    def __init__(
        self,
        module: Network,
        tokenizer: Tokenizer | None = None,
        *,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        self.module, self.tokenizer = module, tokenizer
        self.generation = dict(generation or {})
        if tokenizer is not None and tokenizer.vocab_size > module.config.vocab_size:
            raise UsageError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the network knows "
                f"{module.config.vocab_size}; take the tokenizer that the network was trained with"
            )

    @property
    def config(self) -> Config:
        """The architecture of the network."""
        return self.module.config

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.module.parameters()).device

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        named = self.generation.get("eos_token_id")
        if named is None:
            named = None if self.tokenizer is None else self.tokenizer.eos_id
        if named is None:
            return ()
        return tuple(named) if isinstance(named, (list, tuple)) else (named,)

    @torch.no_grad()
    def logits(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, document_ids: Tensor | None = None
    ) -> Tensor:
        """Logits of input_ids (batch, seq) -> (batch, seq, vocab_size), zeros at padding.

        attention_mask (batch, seq) is 0 at padding, on either side; document_ids (batch, seq) tell apart
        documents packed into one row: each is read as if it stood alone, its positions from 0.
        """
        ids = torch.as_tensor(input_ids, device=self.device)
        if ids.dim() != 2 or not ids.numel():
            raise UsageError(
                f"input_ids have the shape {tuple(ids.shape)}; give (batch, seq), each at least 1"
            )
        mask = torch.ones_like(ids, dtype=torch.bool)
        if attention_mask is not None:
            mask = self._beside(ids, attention_mask, "attention_mask").bool()
        documents = torch.zeros_like(ids)
        if document_ids is not None:
            documents = self._beside(ids, document_ids, "document_ids")
        rows = torch.arange(len(ids), device=self.device)[:, None].expand_as(ids)
        owners = torch.stack([rows[mask], documents[mask]])  # (2, N)
        _, lengths = owners.unique_consecutive(dim=1, return_counts=True)
        layout = Layout.of(lengths.tolist(), device=self.device)
        self._check(ids[mask].tolist(), longest=max(layout.lengths, default=0))
        if not layout.lengths:
            return torch.zeros(*ids.shape, self.config.vocab_size, device=self.device)
        with evaluating(self.module):
            return restore(self.module.output(self.module(ids[mask], layout)), mask)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        max_new_tokens: int = 64,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        eos_ids: Sequence[int] | None = None,
        seed: int | None = None,
        num_samples: int = 1,
        logprobs: int = 0,
    ) -> Any:
        """Answer each prompt, text or token ids: a Completion each, or a list of `num_samples` (> 1) each.

        A single prompt gives one result, not a list of one. Temperature 0 is greedy. `eos_ids` () never ends
        before max_new_tokens. The same prompt and seed give the same answer, whatever the other prompts are;
        the other settings are those of GenerationSettings.
        """
        settings = GenerationSettings(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=_texts(stop),
            eos_ids=None if eos_ids is None else tuple(eos_ids),
            seed=seed,
            num_samples=num_samples,
            logprobs=logprobs,
        )
        single = _is_single(prompts)
        several = cast(Sequence[Prompt], [prompts] if single else prompts)
        engine = self.engine()
        submitted = [engine.submit(Request(self._ids(prompt), settings)) for prompt in several]
        while engine.is_busy:
            engine.step()
        completions = [[answer.completion() for answer in answers] for answers in submitted]
        results = completions if num_samples > 1 else [samples[0] for samples in completions]
        return results[0] if single else results

    def chat(
        self,
        messages: Sequence[Message],
        max_new_tokens: int = 256,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        eos_ids: Sequence[int] | None = None,
        seed: int | None = None,
        num_samples: int = 1,
        logprobs: int = 0,
    ) -> Any:
        """Answer messages through the model's own template: a Completion, or a list of `num_samples` (> 1).

        Messages are those of OpenAI's API, `[{"role": "user", "content": "a question"}]`; what they say is
        text to the model, control strings too. The settings are those of `generate`; for an answer piece by
        piece give `chat_ids(messages)` to `stream`. Errors: UsageError for a model without a template.
        """
        return self.generate(
            self.chat_ids(messages),
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop,
            eos_ids=eos_ids,
            seed=seed,
            num_samples=num_samples,
            logprobs=logprobs,
        )

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of messages in the model's own template, up to where its answer begins."""
        return self.chat_template.encode(messages)

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The model's own template; a UsageError if it has none."""
        template = ChatTemplate.of(self._need_tokenizer("a chat"))
        if template is None:
            raise UsageError(
                "this model has no chat template, so it knows no turns; `generate` completes text, or put "
                "the template of its training into chat_template.jinja beside tokenizer.json"
            )
        return template

    def stream(
        self,
        prompt: Prompt,
        max_new_tokens: int = 64,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        eos_ids: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Answer one prompt piece by piece: the pieces joined are the text that `generate` gives.

        A piece never splits a character and never shows a part of a stop text. Needs a tokenizer.
        """
        self._need_tokenizer("streaming text")
        settings = GenerationSettings(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=_texts(stop),
            eos_ids=None if eos_ids is None else tuple(eos_ids),
            seed=seed,
        )
        engine = self.engine()
        (answer,) = engine.submit(Request(self._ids(prompt), settings))
        return _pieces(engine, answer)

    def score(self, prompt: Prompt, completion: Prompt) -> Score:
        """How likely `completion` is after `prompt` (text or token ids each), summed and for each token.

        Both are made tokens apart, as an answer's are. An empty prompt is the beginning of a document.
        """
        return self.score_batch([(prompt, completion)])[0]

    def score_batch(self, pairs: Sequence[tuple[Prompt, Prompt]]) -> list[Score]:
        """The scores of many (prompt, completion) pairs, read together."""
        rows = []
        for prompt, completion in pairs:
            ids = self._encode(completion)
            before = self._ids(prompt)
            self._check((*before, *ids), longest=len(before) + len(ids) - 1)  # the last token is not read
            rows.append((before, ids))
        with evaluating(self.module):
            return score_rows(self.module, rows)

    def engine(self, **limits: int) -> Engine:
        """An engine over this model, for requests that come and go; `limits` are those of Engine."""
        return Engine(self.module, self.tokenizer, eos_ids=self.eos_ids, **limits)

    def save(self, path: Path | str, *, card: str = "") -> None:
        """Write a bundle, a folder in Hugging Face layout."""
        save_bundle(Path(path), self.module, self.tokenizer, card=card, generation=self.generation)

    # ---- at the door

    def _need_tokenizer(self, what: str) -> Tokenizer:
        if self.tokenizer is None:
            raise UsageError(
                f"{what} needs a tokenizer, and this model has none; give token ids to `generate` instead"
            )
        return self.tokenizer

    def _encode(self, text: Prompt) -> tuple[int, ...]:
        if isinstance(text, str):
            return tuple(self._need_tokenizer("a text").encode(text))
        try:
            return tuple(operator.index(i) for i in text)
        except TypeError:
            raise UsageError(
                f"{str(text)[:60]!r} is no text and no list of token ids; give one of them"
            ) from None

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a prompt; an empty one starts where documents start."""
        ids = self._encode(prompt)
        if ids:
            return ids
        begins = self.generation.get("bos_token_id")
        if begins is None and self.tokenizer is not None:
            begins = self.tokenizer.bos_id
        starts = (*([] if begins is None else [begins]), *self.eos_ids)
        if not starts:
            raise UsageError(
                "the prompt is empty, and this model names no token that begins or ends a document; give at "
                "least one character or token"
            )
        return (starts[0],)

    def _check(self, ids: Sequence[int], *, longest: int) -> None:
        wrong = next((i for i in ids if not 0 <= i < self.config.vocab_size), None)
        if wrong is not None:
            raise UsageError(
                f"token id {wrong} is not in the vocabulary, which ends at {self.config.vocab_size - 1}"
            )
        if self.config.max_positions is not None and longest > self.config.max_positions:
            raise UsageError(
                f"a row has {longest} tokens, but the context holds {self.config.max_positions}; cut it into "
                "shorter ones or take a model with a longer context"
            )

    def _beside(self, ids: Tensor, values: Tensor, name: str) -> Tensor:
        values = torch.as_tensor(values, device=self.device)
        if values.shape != ids.shape:
            raise UsageError(
                f"{name} has shape {tuple(values.shape)}, input_ids {tuple(ids.shape)}; give them the same"
            )
        return values


def _texts(stop: str | Sequence[str]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _is_single(prompts: Prompt | Sequence[Prompt]) -> bool:
    """One prompt, not several: a text, or a list that begins with a token id."""
    if isinstance(prompts, str):
        return True
    return len(prompts) > 0 and not isinstance(prompts[0], str) and hasattr(prompts[0], "__index__")


def _pieces(engine: Engine, answer: Answer) -> Iterator[str]:
    while engine.is_busy:
        engine.step()
        if piece := answer.take_text():
            yield piece
