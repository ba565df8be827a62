"""Whole texts to logits, scores, labels and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from seedbed.base.arguments import bool_of, brief, choice_of
from seedbed.base.errors import UsageError
from seedbed.generation.inputs import Inputs, Prompt, is_single, require_text_or_list, several_of
from seedbed.generation.request import Score, check_ids, require_continuing
from seedbed.generation.rows import evaluating
from seedbed.generation.scoring import batches, row_states, score_rows
from seedbed.generation.shared import MIN_SHARED, score_shared, shared_tokens
from seedbed.generation.tagging import Tagging, tagged, words_of
from seedbed.hub.vectors import VectorSettings
from seedbed.models.transformer import Transformer
from seedbed.nn.config import HeadConfig
from seedbed.nn.layout import Layout, restore

POOLINGS = ("mean", "first")


@dataclass(frozen=True)
class Classification:
    """The most likely label of a text, and the score of each label.

    Scores are probabilities, independent ones where several labels may apply; that of a regression, a head
    with one label, is the number itself.
    """

    label: str
    scores: dict[str, float]


class Reading(Inputs):
    """A model that reads whole texts."""

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

        attention_mask (batch, seq) is 0 at padding, on either side; document_ids (batch, seq) distinguish
        documents packed into one row, each read alone; token_type_ids (batch, seq) are the segments of an
        encoder, 0 by default. An encoder-decoder reads input_ids and gives the logits of decoder_input_ids
        (batch, seq). A network with tags gives (batch, seq, labels), one with classes (batch, labels).
        """
        ids = self._table(input_ids, "input_ids")
        mask = self._beside(ids, attention_mask, "attention_mask", default=1).bool()
        documents = self._beside(ids, document_ids, "document_ids")
        rows = torch.arange(len(ids), device=self.device)[:, None].expand_as(ids)
        owners = torch.stack([rows[mask], documents[mask]])  # (2, N)
        _, lengths = owners.unique_consecutive(dim=1, return_counts=True)
        layout = Layout.of(lengths.tolist(), device=self.device)
        check_ids(ids[mask].tolist(), self.config, num_read=max(layout.lengths, default=0))
        segments: dict[str, Any] = {}
        if token_type_ids is not None:
            segments["segments"] = self._segments(self._beside(ids, token_type_ids, "token_type_ids")[mask])
        if self.config.head.kind == "classification":
            if len(layout.lengths) != len(ids):
                raise UsageError(
                    f"{len(ids)} rows have {len(layout.lengths)} documents that are not empty; this network "
                    "gives the classes of a row, so give one document in each"
                )
            with evaluating(self.module):
                return self._class_logits(ids[mask], layout, **segments)
        if decoder_input_ids is not None or self.config.shape == "encoder-decoder":
            return self._decoder_logits(ids[mask], layout, len(ids), decoder_input_ids)
        if not layout.lengths:
            width = len(self.config.head.labels) or self.config.vocab_size
            return torch.zeros(*ids.shape, width, device=self.device)
        with evaluating(self.module):
            return restore(self.module.output(self.module(ids[mask], layout, **segments)), mask)

    def _decoder_logits(
        self, source: Tensor, layout: Layout, num_rows: int, answers: Tensor | None
    ) -> Tensor:
        """Logits of answers (num_rows, seq) over a source (N,), a row of it for each."""
        if self.config.shape != "encoder-decoder" or answers is None:
            raise UsageError(
                f"decoder_input_ids belong to an encoder-decoder and it needs them; this network's shape is "
                f"{self.config.shape!r}, and they were {'not ' if answers is None else ''}given"
            )
        answers = self._table(answers, "decoder_input_ids")
        if not len(answers) == num_rows == len(layout.lengths):
            raise UsageError(
                f"input_ids have {num_rows} rows, {len(layout.lengths)} documents that are not empty, and "
                f"decoder_input_ids {len(answers)} rows; give one document per row and as many answers"
            )
        check_ids(answers.flatten().tolist(), self.config, num_read=answers.size(1))
        own = Layout.of([answers.size(1)] * len(answers), device=self.device)
        with evaluating(self.module):
            sources: dict[str, Any] = {"source": source, "source_layout": layout}
            logits: Tensor = self.module.output(self.module(answers.flatten(), own, **sources))
        return logits.view(*answers.shape, -1)

    @overload
    def classify(self, texts: Prompt) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, texts: Sequence[Prompt]) -> list[Classification]: ...
    def classify(self, texts: Prompt | Sequence[Prompt]) -> Classification | list[Classification]:
        """The class of each text or list of token ids: a Classification each, one for a single text.

        The special tokens around a text are read, too. Errors: UsageError for a model without classes.
        """
        head = self._need_labels("classification", "classes")
        results = []
        for logits in self._label_logits([row for row, _ in self._documents(texts)]):
            scores = _probabilities(head, logits).tolist()
            best = max(range(len(scores)), key=scores.__getitem__)
            results.append(Classification(head.labels[best], dict(zip(head.labels, scores, strict=True))))
        return results[0] if is_single(texts) else results

    @overload
    def tag(self, text: str | Sequence[str]) -> Tagging: ...
    @overload
    def tag(self, text: list[list[str]]) -> list[Tagging]: ...
    def tag(self, text: str | Sequence[str] | list[list[str]]) -> Tagging | list[Tagging]:
        """The labels of the words of a text or of a list of words; several lists give a list.

        A text's words are runs of letters and digits, and other characters alone. Errors: UsageError for a
        model without tags.
        """
        head = self._need_labels("tagging", "tags")
        require_text_or_list(text)
        several = not isinstance(text, str) and len(text) > 0 and isinstance(text[0], list | tuple)
        found = [words_of(one) for one in (text if several else [text])]  # type: ignore[arg-type]
        documents = self._documents([joined for joined, _ in found])
        results = []
        rows = self._label_logits([row for row, _ in documents])
        for logits, (_, spans), (joined, words) in zip(rows, documents, found, strict=True):
            scores, best = _probabilities(head, logits).max(-1)
            inner = [at for at, (start, end) in enumerate(spans) if end > start]  # not the special tokens
            labels = [head.labels[label] for label in best[inner].tolist()]
            tokens = [spans[at] for at in inner]
            how = {"all_labels": head.labels}
            results.append(tagged(joined, words, tokens, labels, scores[inner].tolist(), **how))
        return results if several else results[0]

    @torch.no_grad()
    def _label_logits(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """The logits of rows of tokens: (labels,) of each for classes, (tokens, labels) of each for tags."""
        found: dict[int, Tensor] = {}
        with evaluating(self.module):
            for members, ids, layout in batches(rows, self.device):
                if self.config.head.kind == "classification":
                    logits: Sequence[Tensor] = self._class_logits(ids, layout).unbind()
                else:
                    logits = self.module.output(self.module(ids, layout)).split(layout.lengths)
                found |= dict(zip(members, logits, strict=True))
        return [found[r] for r in range(len(rows))]

    def _class_logits(self, ids: Tensor, layout: Layout, segments: Tensor | None = None) -> Tensor:
        """Logits (rows, labels) of the classes of flat ids (N,), none of the rows empty."""
        module = self.module
        assert isinstance(module, Transformer)
        if module.config.shape != "encoder-decoder":
            return module.classify(module(ids, layout, segments=segments), layout)
        # The decoder reads the row again, shifted: start token first, last token left out (1910.13461, 3.2).
        starts = ids.new_tensor(self._start_ids())
        shifted = torch.cat([part for row in ids.split(layout.lengths) for part in (starts, row[:-1])])
        return module.classify(module(shifted, layout, source=ids, source_layout=layout), layout)

    def score(self, prompt: Prompt, completion: Prompt) -> Score:
        """The log-probability of `completion` after `prompt` (text or token ids), summed and per token.

        The two are encoded separately. An empty prompt is the beginning of a document; an encoder-decoder
        reads the prompt and scores the completion as its answer.
        """
        return self.score_batch([(prompt, completion)])[0]

    def score_batch(self, pairs: Sequence[tuple[Prompt, Prompt]]) -> list[Score]:
        """The scores of many (prompt, completion) pairs, read together."""
        require_continuing(self.config)
        require_text_or_list(pairs)
        rows, sources = [], []
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise UsageError(f"{brief(pair)} is not a pair; give (prompt, completion)")
            prompt, completion = pair
            ids = self._encode(completion)
            before, source = self._read(prompt)
            if source:
                check_ids(source, self.config, num_read=len(source), name="source")
                sources.append(source)
            check_ids((*before, *ids), self.config, num_read=len(before) + len(ids) - 1)  # not the last
            rows.append((before, ids))
        with evaluating(self.module):
            shared = shared_tokens(rows) if rows and not sources else 0
            repeats = not sources and len({tuple(before) for before, _ in rows}) < len(rows)
            if len(rows) > 1 and (shared >= MIN_SHARED or repeats):
                return score_shared(self.module, rows, shared)
            return score_rows(self.module, rows, sources=sources)

    def embed(
        self, texts: Prompt | Sequence[Prompt], *, pooling: str | None = None, normalize: bool | None = None
    ) -> Tensor:
        """Vectors of texts (or token ids): (batch, d_model) in float32, (d_model,) of a single one.

        `pooling` is the `mean` over a text's tokens, special ones included, or the `first` token's;
        `normalize` makes their length 1. Both default to those of a sentence-transformers folder, else to the
        mean without normalization. Such a folder also says how many tokens of a text are read; a text that is
        cut off there is warned of once. Errors: UsageError for a text without tokens or longer than the
        context, or where the folder's pooling is not supported.
        """
        own = self.vectors or VectorSettings()
        if pooling is None and own.problem is not None:
            raise UsageError(
                f"{own.problem}, which is not supported; give pooling='mean' or 'first' for vectors of "
                "another kind, which the model was not trained for"
            )
        pooling = own.pooling if pooling is None else choice_of("pooling", pooling, POOLINGS)
        normalize = own.normalize if normalize is None else bool_of("normalize", normalize)
        rows = self._rows_to_embed(texts)
        vectors = torch.empty(len(rows), self.config.d_model, device=self.device)
        with evaluating(self.module):
            for r, states in row_states(self.module, rows):
                vectors[r] = states.mean(0) if pooling == "mean" else states[0]
        if normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return vectors[0] if is_single(texts) else vectors

    def _rows_to_embed(self, texts: Prompt | Sequence[Prompt]) -> list[list[int]]:
        """The tokens of texts, at most as many as the folder of sentence-transformers says."""
        own, several = self.vectors, several_of(texts)
        if own is None:
            return [row for row, _ in self._documents(several)]
        if own.lower_case:
            several = [text.lower() if isinstance(text, str) else text for text in several]
        limits = [limit for limit in (own.max_tokens, self.config.max_positions) if limit is not None]
        return [row for row, _ in self._documents(several, most=min(limits, default=None))]


def _probabilities(head: HeadConfig, logits: Tensor) -> Tensor:
    if head.kind == "classification" and len(head.labels) == 1:
        return logits.float()
    return logits.float().sigmoid() if head.several_labels else logits.float().softmax(-1)
