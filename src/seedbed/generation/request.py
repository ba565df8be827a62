"""A request to a language model, and the results it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seedbed.base.errors import UsageError
from seedbed.generation.settings import GenerationSettings
from seedbed.models.family import Config

FinishReason = Literal["stop", "length", "cancelled"]


def require_continuing(config: Config) -> None:
    """Refuse with a UsageError a network that does not predict the next token."""
    if config.head.labels:
        verb = "classify" if config.head.kind == "classification" else "tag"
        raise UsageError(
            f"this network's head gives labels, not text; use `lm.{verb}`, or take a model without that head"
        )
    if config.shape == "encoder":
        fills = config.head.kind == "mlm"
        instead = "let it fill blanks (`fill`, --fill)" if fills else "use this one for vectors (`lm.embed`)"
        raise UsageError(
            "an encoder-only network reads the tokens on both sides of each token, so it cannot continue a "
            f"text; take a decoder or an encoder-decoder, or {instead}"
        )


def check_ids(ids: Sequence[int], config: Config, *, num_read: int = 0, name: str = "row") -> None:
    """Refuse with a UsageError ids outside the vocabulary, and more positions than the context has."""
    wrong = next((i for i in ids if not 0 <= i < config.vocab_size), None)
    if wrong is not None:
        raise UsageError(
            f"token id {wrong} is not in the vocabulary: ids go from 0 to {config.vocab_size - 1}"
        )
    if config.max_positions is not None and num_read > config.max_positions:
        raise UsageError(
            f"the {name} has {num_read} tokens, but the context holds {config.max_positions}; shorten it or "
            "take a model with a longer context"
        )


@dataclass(frozen=True)
class Request:
    """A prompt of at least one token, and the settings of its answer, which continues the prompt.

    An encoder-decoder reads the source, and its prompt is the decoder's start token.
    """

    prompt_ids: tuple[int, ...]
    settings: GenerationSettings
    source_ids: tuple[int, ...] = ()

    def check(self, config: Config, *, has_tokenizer: bool) -> None:
        """Refuse with a UsageError what a network of this architecture cannot answer."""
        require_continuing(config)
        reads = {"prompt": self.prompt_ids}
        if config.shape == "encoder-decoder" or self.source_ids:
            reads["source"] = self.source_ids
        if config.shape == "decoder" and self.source_ids:
            raise UsageError("a decoder reads no source; make it part of the prompt")
        for name, ids in reads.items():
            if not ids:
                raise UsageError(f"the {name} has no token to start from; give at least one")
            check_ids(ids, config, num_read=len(ids), name=name)
        check_ids(self.settings.eos_ids or (), config)
        if self.settings.stop and not has_tokenizer:
            raise UsageError(
                f"stop={self.settings.stop!r} needs text, and this model has no tokenizer; give eos_ids"
            )


@dataclass(frozen=True)
class TokenLogprob:
    """A token's log-probability in nats, before temperature and filters, and the top ones in its place."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (id, log-probability), most likely first


@dataclass(frozen=True)
class Completion:
    """An answer: all sampled token ids, an end token included; the text before an end token or stop text.

    `text` is None without a tokenizer, `logprobs` unless requested. `finish_reason` is "stop" for an end
    token or a stop text, "length" at max_new_tokens or the end of the context, else "cancelled".
    """

    text: str | None
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True)
class Score:
    """The log-probability of a completion after a prompt in nats, summed and per token.

    `token_is_top` says for each token whether it is the network's most likely one in its place.
    """

    logprob: float
    token_ids: list[int]
    token_logprobs: list[float]
    token_is_top: list[bool]

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding after the prompt gives this completion."""
        return all(self.token_is_top)
