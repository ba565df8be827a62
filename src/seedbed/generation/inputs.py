"""A user's inputs of a model, checked and encoded; the base of `LanguageModel`."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from seedbed.base.arguments import brief
from seedbed.base.described import Described
from seedbed.base.errors import BundleError, SeedbedWarning, UsageError
from seedbed.generation.filling import MaskFiller
from seedbed.generation.gaps import GapFiller, filler_of
from seedbed.generation.request import Request, check_ids
from seedbed.generation.settings import GenerationSettings
from seedbed.hub.vectors import VectorSettings
from seedbed.models.family import Config, Network
from seedbed.models.network import require_vocabulary
from seedbed.nn.config import HeadConfig, ModelConfig
from seedbed.text.special_form import BLANK_KEY
from seedbed.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]


class Inputs(Described):
    """A network with its tokenizer, and the encoding of its prompts."""

    def __init__(
        self,
        module: Network,
        tokenizer: Tokenizer | None = None,
        *,
        generation: Mapping[str, Any] | None = None,
        vectors: VectorSettings | None = None,
    ) -> None:
        self.module, self.tokenizer = module, tokenizer
        self.generation, self.vectors = dict(generation or {}), vectors
        self._has_cut = False
        if names := require_vocabulary(tokenizer, module.config, allow_added=True):
            size = module.config.vocab_size
            warnings.warn(
                f"the tokenizer has {size + len(names)} tokens, but the network has {size}: texts with "
                f"{', '.join(names[:3])} are refused",
                SeedbedWarning,
                stacklevel=3,
            )

    @property
    def config(self) -> Config:
        """The architecture of the network."""
        return self.module.config

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.module.device

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        return self._named("eos_token_id", getattr(self.tokenizer, "eos_id", None))

    @property
    def _bos_ids(self) -> tuple[int, ...]:
        return self._named("bos_token_id", getattr(self.tokenizer, "bos_id", None))

    def blank_ids(self, text: str) -> list[int]:
        """The token ids of a text with blanks, each `___` or the model's own mark, for `generate`.

        All else stays text. Errors: UsageError for a text without a blank, and for a model that fills none.
        """
        return list(self._filler.encoder.encode(text).ids)

    @cached_property
    def _filler(self) -> MaskFiller | GapFiller:
        return filler_of(
            self.module,
            self.tokenizer,
            start_ids=self._start_ids,
            eos_ids=self.eos_ids,
            blank=self.generation.get(BLANK_KEY),
        )

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
            if isinstance(text, bytes | bytearray):
                raise TypeError
            return tuple(operator.index(i) for i in text)
        except TypeError:
            raise UsageError(
                f"{str(text)[:60]!r} is neither a text nor a list of token ids; give one of them"
            ) from None

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a prompt; an empty one is the token that begins documents.

        An encoder reads a whole document, with the special tokens that the tokenizer puts around it; the
        prompt of a decoder has only those before it.
        """
        if not isinstance(prompt, str):
            ids = self._encode(prompt)
        elif self.config.shape == "encoder-decoder":
            ids = tuple(self._need_tokenizer("a text").encode_document(prompt))
        else:
            tokenizer = self._need_tokenizer("a text")
            ids = (*tokenizer.around_ids[0], *tokenizer.encode(prompt))
        if ids:
            return ids
        starts = self._bos_ids or self.eos_ids
        if not starts:
            raise UsageError(
                "the prompt is empty, and this model names no token that begins or ends a document; give at "
                "least one character or token"
            )
        return starts[:1]

    def _documents(
        self, texts: Prompt | Sequence[Prompt], *, most: int | None = None
    ) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Each text's tokens, special ones included, with their characters or else positions; checked.

        A row of more than `most` tokens loses its last ones, but not the special ones behind them.
        """
        found = []
        for text in several_of(texts):
            if isinstance(text, str):
                row, spans = self._need_tokenizer("a text").encode_spans(text)
            else:
                row = list(self._encode(text))
                spans = [(i, i + 1) for i in range(len(row))]
            if most is not None and len(row) > most:
                behind = len(self._need_tokenizer("a text").around_ids[1]) if isinstance(text, str) else 0
                row, spans = ([*each[: most - behind], *each[len(each) - behind :]] for each in (row, spans))
                self._warn_of_cut(most)
            check_ids(row, self.config, num_read=len(row))
            if not row:
                raise UsageError("a text is empty, so there is nothing to read; leave it out")
            found.append((row, spans))
        return found

    def _warn_of_cut(self, most: int) -> None:
        """Warn once per model."""
        if not self._has_cut:
            self._has_cut = True
            warnings.warn(
                f"longer texts than {most} tokens are cut off there, as the model's files say for vectors",
                SeedbedWarning,
                stacklevel=4,
            )

    def _need_labels(self, kind: str, what: str) -> HeadConfig:
        head = self.config.head
        if head.kind != kind:
            raise UsageError(
                f"this network has no {what}: its head is {head.kind!r}; load a model that was saved with a "
                f"{kind} head"
            )
        return head

    def _start_ids(self) -> tuple[int, ...]:
        """The tokens, one or none, that an encoder-decoder's answers start with."""
        if self.config.shape != "encoder-decoder":
            return ()
        starts = self._named("decoder_start_token_id") or self._bos_ids
        if not starts:
            raise UsageError(
                "this encoder-decoder names no token that its answers start with; put decoder_start_token_id "
                "into its generation_config.json"
            )
        return starts[:1]

    def _named(self, key: str, default: int | None = None) -> tuple[int, ...]:
        """The tokens in `generation` under a key: one, several, or none; else the default."""
        named = self.generation.get(key)
        named = default if named is None else named
        ids = named if isinstance(named, (list, tuple)) else [] if named is None else [named]
        if not all(type(i) is int for i in ids):
            raise BundleError(
                f"{key}={str(named)[:60]} of the model's files is not a token id or a list of them"
            )
        return tuple(ids)

    def _read(self, prompt: Prompt) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens before the answer, and the encoder's source."""
        ids = self.prompt_ids(prompt)
        return (self._start_ids(), ids) if self.config.shape == "encoder-decoder" else (ids, ())

    def _request(self, prompt: Prompt, settings: GenerationSettings) -> Request:
        before, source = self._read(prompt)
        return Request(before, settings, source)

    def _segments(self, segments: Tensor) -> Tensor:
        """Segments (N,) of an encoder, each below its number of segments."""
        config = self.config
        num_types = config.segment_types if isinstance(config, ModelConfig) else 0
        if config.shape != "encoder" or not num_types:
            raise UsageError("token_type_ids belong to an encoder with segments, and this network has none")
        if segments.numel() and not 0 <= int(segments.min()) <= int(segments.max()) < num_types:
            raise UsageError(f"token_type_ids go from 0 to {num_types - 1} here; give others")
        return segments

    def _table(self, ids: Tensor, name: str) -> Tensor:
        ids = self._whole_numbers(ids, name)
        if ids.dim() != 2 or not ids.numel():
            raise UsageError(f"{name} have the shape {tuple(ids.shape)}; give (batch, seq), each at least 1")
        return ids

    def _whole_numbers(self, values: Any, name: str) -> Tensor:
        """A tensor of whole numbers, or of flags, on the network's device."""
        try:
            found = torch.as_tensor(values, device=self.device)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            found = torch.full((), 0.5)
        is_float = found.dtype.is_floating_point
        if found.dtype.is_complex or (is_float and not bool((found == found.round()).all())):
            raise UsageError(f"{name}={brief(values)} is not a tensor of whole numbers; give (batch, seq)")
        return found.long() if is_float else found

    def _beside(self, ids: Tensor, values: Tensor | None, name: str, *, default: int = 0) -> Tensor:
        if values is None:
            return torch.full_like(ids, default)
        values = self._whole_numbers(values, name)
        if values.shape != ids.shape:
            raise UsageError(
                f"{name} has shape {tuple(values.shape)}, input_ids {tuple(ids.shape)}; give them the same"
            )
        return values


def several_of(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    """The prompts as a list, also of a single one."""
    return cast(Sequence[Prompt], [prompts] if is_single(prompts) else prompts)


def is_single(prompts: Prompt | Sequence[Prompt]) -> bool:
    """Whether this is one prompt, not several: a text, or a list that begins with a token id.

    Errors: UsageError for what is neither a text nor a list.
    """
    require_text_or_list(prompts)
    if isinstance(prompts, str):
        return True
    return len(prompts) > 0 and not isinstance(prompts[0], str) and hasattr(prompts[0], "__index__")


def require_text_or_list(prompts: object) -> None:
    """Raise a UsageError for what is neither a text nor a list."""
    has_items = hasattr(prompts, "__getitem__") and not isinstance(prompts, Mapping | type)
    try:
        len(prompts)  # type: ignore[arg-type]
    except TypeError:
        has_items = False
    if not has_items:
        raise UsageError(
            f"{brief(prompts)} is neither a text nor a list; give a text, token ids or a list of them"
        )
