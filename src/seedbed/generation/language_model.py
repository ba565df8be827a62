"""A network with its tokenizer: what a user holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seedbed.base.errors import UsageError
from seedbed.generation.answer import Answer
from seedbed.generation.beam import EarlyStopping
from seedbed.generation.embedding import chosen_vectors, embed_rows, kept_vectors
from seedbed.generation.engine import Engine, evaluating
from seedbed.generation.filling import Candidate, Filled, require_count
from seedbed.generation.inputs import Inputs, Prompt, is_single, several_of
from seedbed.generation.labelling import Classification, Tag, classified, label_rows, row_logits, tagged
from seedbed.generation.request import (
    Completion,
    GenerationSettings,
    Score,
    TokenLogprob,
    require_continuing,
)
from seedbed.generation.scoring import score_rows
from seedbed.hub.bundle import save_bundle
from seedbed.nn.layout import Layout, restore
from seedbed.text.chat_template import ChatTemplate, Message

__all__ = [
    "Candidate",
    "Classification",
    "Completion",
    "Filled",
    "LanguageModel",
    "Score",
    "Stream",
    "Tag",
    "TokenLogprob",
]


class LanguageModel(Inputs):
    """A language model of any shape: give it text or token ids.

    `generation` is what a bundle's `generation_config.json` says: its `eos_token_id` (one or several) ends
    answers, else the tokenizer's; an encoder-decoder reads the prompt and begins its answer after
    `decoder_start_token_id`, else `bos_token_id`; `forced_bos_token_id` and `forced_eos_token_id` come first
    and last. Beams and temperatures that it recommends are not taken: `generate`'s defaults are those of its
    signature, and generation/recommended.py says what the file asks for. Without a tokenizer token ids work,
    and what needs text says so.
    """

    @torch.no_grad()
    def logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        document_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits of input_ids (batch, seq) -> (batch, seq, vocab_size), zeros at padding.

        attention_mask (batch, seq) is 0 at padding, on either side; document_ids (batch, seq) tell apart
        documents packed into one row: each is read as if it stood alone, its positions from 0.
        token_type_ids (batch, seq) are the segments of an encoder that knows them, 0 where left out. An
        encoder-decoder reads input_ids and gives the logits of decoder_input_ids (batch, seq). A network
        with tags has (batch, seq, labels), one with classes (batch, labels): of a row, so it needs one
        document a row.
        """
        ids = self._table(input_ids, "input_ids")
        given: dict[str, Any] = {}
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
        if token_type_ids is not None:
            given["segments"] = self._segments(self._beside(ids, token_type_ids, "token_type_ids")[mask])
        if self.config.head.kind == "classification":
            return self._row_logits(ids[mask], layout, num_rows=len(ids), **given)
        if decoder_input_ids is not None or self.config.shape == "encoder-decoder":
            return self._decoder_logits(ids[mask], layout, ids, decoder_input_ids)
        if not layout.lengths:
            width = len(self.config.head.labels) or self.config.vocab_size
            return torch.zeros(*ids.shape, width, device=self.device)
        with evaluating(self.module):
            return restore(self.module.output(self.module(ids[mask], layout, **given)), mask)

    def _row_logits(self, ids: Tensor, layout: Layout, *, num_rows: int, **given: Any) -> Tensor:
        """Logits (rows, labels) of the classes of flat ids (N,)."""
        if len(layout.lengths) != num_rows:
            raise UsageError(
                f"{num_rows} rows hold {len(layout.lengths)} documents that are not empty; this network "
                "gives the classes of a row, so give one document in each"
            )
        with evaluating(self.module):
            return row_logits(self.module, ids, layout, start_ids=self._start_ids(), **given)

    def classify(self, texts: Prompt | Sequence[Prompt]) -> Any:
        """The class of each text, or of its token ids: a Classification each, one of a single text.

        Texts are read as documents, with the tokens that the tokenizer puts around them. Errors: UsageError
        for a model without classes.
        """
        head = self._need_labels("classification", "classes")
        rows = [row for row, _ in self._documents(texts)]
        with evaluating(self.module):
            logits = label_rows(self.module, rows, start_ids=self._start_ids())
        results = [classified(head, of_row) for of_row in logits]
        return results[0] if is_single(texts) else results

    def tag(self, texts: Prompt | Sequence[Prompt]) -> Any:
        """The label of each token of each text or list of ids: a list of Tags each, one of a single text.

        The tokens that the tokenizer puts around a text are left out. Errors: UsageError for a model without
        tags.
        """
        head = self._need_labels("tagging", "tags")
        documents = self._documents(texts)
        with evaluating(self.module):
            logits = label_rows(self.module, [row for row, _ in documents])
        results = [
            tagged(head, of_row, row, spans, text if isinstance(text, str) else None)
            for of_row, (row, spans), text in zip(logits, documents, several_of(texts), strict=True)
        ]
        return results[0] if is_single(texts) else results

    def _decoder_logits(self, source: Tensor, layout: Layout, ids: Tensor, answers: Tensor | None) -> Tensor:
        """Logits of answers (batch, seq) over a source (N,), a row of it for each row of ids."""
        if self.config.shape != "encoder-decoder" or answers is None:
            raise UsageError(
                f"decoder_input_ids belong to an encoder-decoder and it needs them; this network's shape is "
                f"{self.config.shape!r}, and they were {'not ' if answers is None else ''}given"
            )
        answers = self._table(answers, "decoder_input_ids")
        if not len(answers) == len(ids) == len(layout.lengths):
            raise UsageError(
                f"input_ids have {len(ids)} rows, {len(layout.lengths)} documents that are not empty, and "
                f"decoder_input_ids {len(answers)} rows; give one document a row and as many answers"
            )
        self._check(answers.flatten().tolist(), longest=answers.size(1))
        own = Layout.of([answers.size(1)] * len(answers), device=self.device)
        with evaluating(self.module):
            given: dict[str, Any] = {"source": source, "source_layout": layout}
            logits: Tensor = self.module.output(self.module(answers.flatten(), own, **given))
        return logits.view(*answers.shape, -1)

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
        num_beams: int = 1,
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
    ) -> Any:
        """Answer each prompt, text or token ids: a Completion each, or a list of `num_samples` (> 1) each.

        A single prompt gives one result, not a list of one. Temperature 0 is greedy; `num_beams` > 1
        searches, and its samples are the best answers found. `eos_ids` () never ends before max_new_tokens.
        The same prompt and seed give the same answer, whatever the other prompts are; the other settings are
        those of GenerationSettings. A prompt's text is text, `<extra_id_0>` and `<mask>` too: a prompt with
        blanks is `blank_ids("Thank you ___ me")`.
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
            num_beams=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
        single = is_single(prompts)
        engine = self.engine()
        submitted = [engine.submit(self._request(prompt, settings)) for prompt in several_of(prompts)]
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
        require_continuing(self.config)
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
    ) -> Stream:
        """Answer one prompt piece by piece: the pieces joined are the text that `generate` gives.

        A piece never splits a character and never shows a part of a stop text. After the last one the
        stream's `completion` says why the answer ended. Needs a tokenizer.
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
        (answer,) = engine.submit(self._request(prompt, settings))
        return Stream(engine, answer)

    def fill(
        self, texts: str | Sequence[str], num_candidates: int = 5, *, max_new_tokens: int | None = None
    ) -> Any:
        """Fill the blanks of a text, each `___` or the model's own mask or sentinel: a Filled for each text.

        A single text gives one result, not a list of one. A masked model puts one token into each blank, as
        if the others stayed blank; an encoder-decoder, by the sentinels or masks that it was trained with,
        any number up to `max_new_tokens` (16), given the best candidates in the blanks before. Probabilities
        are those of MaskFiller and GapFiller; special tokens are never candidates. Errors: UsageError for a
        text without a blank or longer than the context, and for a model that fills none.
        """
        filler = self._filler
        require_count("num_candidates", num_candidates)
        blanked = [filler.encoder.encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
        for text in blanked:
            self._check(text.ids, longest=len(text.ids))
        with evaluating(self.module):
            filled = filler.fill(blanked, num_candidates=num_candidates, max_new_tokens=max_new_tokens)
        return filled[0] if isinstance(texts, str) else filled

    def score(self, prompt: Prompt, completion: Prompt) -> Score:
        """How likely `completion` is after `prompt` (text or token ids each), summed and for each token.

        Both are made tokens apart, as an answer's are. An empty prompt is the beginning of a document; an
        encoder-decoder reads the prompt, and scores what it would answer.
        """
        return self.score_batch([(prompt, completion)])[0]

    def score_batch(self, pairs: Sequence[tuple[Prompt, Prompt]]) -> list[Score]:
        """The scores of many (prompt, completion) pairs, read together."""
        require_continuing(self.config)
        rows, sources = [], []
        for prompt, completion in pairs:
            ids = self._encode(completion)
            before, source = self._read(prompt)
            if source:
                self._check(source, longest=len(source))
                sources.append(source)
            self._check((*before, *ids), longest=len(before) + len(ids) - 1)  # the last token is not read
            rows.append((before, ids))
        with evaluating(self.module):
            return score_rows(self.module, rows, sources=sources)

    def embed(
        self, texts: Prompt | Sequence[Prompt], *, pooling: str | None = None, normalize: bool | None = None
    ) -> Tensor:
        """Vectors of texts (or token ids): (batch, d_model) in float32, (d_model,) of a single one.

        `pooling` is the mean over a text's tokens, those that the tokenizer puts around it included, or the
        `first` token's; `normalize` makes their length 1, so that products are cosines. Left out, they are
        what the folder of a sentence-transformers model says, else the mean as it is. Errors: UsageError for
        an empty text or one longer than the context, or where the folder asks for what is not known here.
        """
        pooling, normalize = chosen_vectors(self.vectors, pooling, normalize)
        single, rows = is_single(texts), [row for row, _ in self._documents(texts)]
        with evaluating(self.module):
            vectors = embed_rows(self.module, rows, pooling=pooling)
        vectors = torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors
        return vectors[0] if single else vectors

    def engine(self, **limits: int) -> Engine:
        """An engine over this model, for requests that come and go; `limits` are those of Engine."""
        forced_bos = self._named("forced_bos_token_id")
        return Engine(
            self.module,
            self.tokenizer,
            eos_ids=self.eos_ids,
            forced_bos_id=forced_bos[0] if forced_bos else None,
            forced_eos_ids=self._named("forced_eos_token_id"),
            **limits,
        )

    def save(self, path: Path | str, *, card: str = "") -> None:
        """Write a bundle, a folder in Hugging Face layout."""
        vectors = kept_vectors(self.vectors)
        save_bundle(
            Path(path), self.module, self.tokenizer, card=card, generation=self.generation, vectors=vectors
        )


def _texts(stop: str | Sequence[str]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop)


class Stream(Iterator[str]):
    """The text of an answer piece by piece as it is made; `completion` is all of it, None until it ends."""

    def __init__(self, engine: Engine, answer: Answer) -> None:
        self._engine, self._answer = engine, answer

    def __next__(self) -> str:
        while self._engine.is_busy:
            self._engine.step()
            if piece := self._answer.take_text():
                return piece
        raise StopIteration

    @property
    def completion(self) -> Completion | None:
        """The whole answer, with the reason why it ended."""
        return self._answer.completion() if self._answer.is_finished else None
