"""What is asked of a language model and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from seedbed.base.errors import ConfigError
from seedbed.generation.sampling import Sampling

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How to answer a prompt.

    `temperature` 0 takes the likeliest token each time; `top_k` and `top_p` narrow what may be drawn, in this
    order, after the temperature. `stop` are texts that end the answer and are not part of it; `eos_ids` are
    tokens that end it (None: those that the model names). `seed` None draws anew each time. `num_samples`
    answers share the work on their prompt. `logprobs` n > 0 asks for the log-probability of each token and of
    the n likeliest in its place.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] | None = None
    seed: int | None = None
    num_samples: int = 1
    logprobs: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("max_new_tokens", 1),
            ("num_samples", 1),
            ("logprobs", 0),
            ("top_k", 1),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value is None and name in ("top_k", "seed"):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                hint = "; leave it out to keep the whole vocabulary" if name == "top_k" else ""
                raise ConfigError(
                    f"{name}={value!r} is not allowed: give a whole number of at least {least}{hint}"
                )
        if not (self.temperature == 0 or 1e-6 <= self.temperature < math.inf):
            raise ConfigError(
                f"temperature={self.temperature!r} is not allowed: give 0 (always the likeliest token) or a "
                "number from 1e-6 up"
            )
        if self.top_p is not None and not 0 <= self.top_p <= 1:
            raise ConfigError(
                f"top_p={self.top_p!r} is not allowed: give a probability from 0 to 1, or leave it out"
            )
        if not isinstance(self.stop, tuple) or not all(self.stop):
            raise ConfigError(
                f"stop={self.stop!r} is not allowed: give a tuple of texts, each of at least one character"
            )

    @property
    def sampling(self) -> Sampling:
        """How each token is drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p)


@dataclass(frozen=True)
class Request:
    """A prompt of at least one token, and how to answer it."""

    prompt_ids: tuple[int, ...]
    settings: GenerationSettings


@dataclass(frozen=True)
class TokenLogprob:
    """A token's log-probability in nats, before temperature and filters, and the likeliest in its place."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (id, log-probability), likeliest first


@dataclass(frozen=True)
class Completion:
    """An answer: all token ids that were drawn, one that ended it included; the text before what ended it.

    `text` is None without a tokenizer, `logprobs` unless they were asked for. `finish_reason` is "stop" for
    an end token or a stop text, "length" at max_new_tokens or the end of the context, "cancelled" for a
    withdrawn request.
    """

    text: str | None
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True)
class Score:
    """How likely a completion is after a prompt: log-probabilities in nats, of each token and summed."""

    logprob: float
    token_ids: list[int]
    token_logprobs: list[float]
