"""A network with its tokenizer: what a user holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedbed.generation.answering import Answering, Stream
from seedbed.generation.embedding import kept_vectors
from seedbed.generation.filling import Candidate, Filled, require_count
from seedbed.generation.labelling import Classification, Tag
from seedbed.generation.reading import Reading
from seedbed.generation.request import Completion, Score, TokenLogprob
from seedbed.generation.rows import evaluating
from seedbed.hub.bundle import save_bundle

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


class LanguageModel(Answering, Reading):
    """A language model of any shape: give it text or token ids.

    `generation` is what a bundle's `generation_config.json` says: its `eos_token_id` (one or several) ends
    answers, else the tokenizer's; an encoder-decoder reads the prompt and begins its answer after
    `decoder_start_token_id`, else `bos_token_id`; `forced_bos_token_id` and `forced_eos_token_id` come first
    and last. Beams and temperatures that it recommends are not taken: `generate`'s defaults are those of its
    signature, and generation/recommended.py says what the file asks for. Without a tokenizer token ids work,
    and what needs text says so.
    """

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

    def save(self, path: Path | str, *, card: str = "") -> None:
        """Write a bundle, a folder in Hugging Face layout."""
        vectors = kept_vectors(self.vectors)
        save_bundle(
            Path(path), self.module, self.tokenizer, card=card, generation=self.generation, vectors=vectors
        )
