"""What is asked of a language model and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from seedbed.base.errors import ConfigError, UsageError
from seedbed.generation.beam import EarlyStopping
from seedbed.generation.sampling import Sampling
from seedbed.models.family import Config

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How to answer a prompt.

    `temperature` 0 takes the likeliest token each time; `top_k` and `top_p` narrow what may be drawn, in this
    order, after the temperature. `stop` are texts that end the answer and are not part of it; `eos_ids` are
    tokens that end it (None: those that the model names). `seed` None draws anew each time. `num_samples`
    answers share the work on their prompt. `logprobs` n > 0 asks for the log-probability of each token and of
    the n likeliest in its place.

    `num_beams` > 1 searches instead of drawing (generation/beam.py): `num_samples` are then the best answers
    found, at most as many as beams. An answer is judged by its summed log-probability / its number of tokens
    ** `length_penalty`: above 0 favours long ones. `early_stopping` True stops at num_beams answers, False
    when no beam is better as it stands, "never" when none can become better.
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
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False

    def __post_init__(self) -> None:
        for name, least in (
            ("max_new_tokens", 1),
            ("num_samples", 1),
            ("num_beams", 1),
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
        self._check_beams()

    def _check_beams(self) -> None:
        """Refuse what beam search does not know, and its settings where there is none."""
        penalty, early, beams = self.length_penalty, self.early_stopping, self.num_beams
        if isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or not -20 <= penalty <= 20:
            raise ConfigError(
                f"length_penalty={penalty!r} is not allowed: give a number from -20 to 20; 0 judges an "
                "answer by its probability alone"
            )
        if not isinstance(early, bool) and early != "never":
            raise ConfigError(f"early_stopping={early!r} is not allowed: give True, False or 'never'")
        if beams == 1:
            if penalty != 1 or early is not False:
                name = "length_penalty" if penalty != 1 else "early_stopping"
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} has no effect with num_beams=1; leave it out or set "
                    "num_beams to at least 2"
                )
            return
        if self.num_samples > beams:
            raise ConfigError(
                f"num_samples={self.num_samples} is not allowed beside num_beams={beams}: a search keeps one "
                f"answer a beam; give at most {beams}"
            )
        neutral = {"temperature": (0, 1), "top_k": (None,), "top_p": (None,), "stop": ((),), "logprobs": (0,)}
        for name, allowed in neutral.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} is not allowed beside num_beams={beams}: beam search "
                    f"draws nothing and knows an answer only when it has ended; leave {name} out or set "
                    "num_beams=1"
                )

    @property
    def sampling(self) -> Sampling:
        """How each token is drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p)


def require_continuing(config: Config) -> None:
    """Refuse with a UsageError a network that gives no token after those before it."""
    if config.head.labels:
        verb = "classify" if config.head.kind == "classification" else "tag"
        raise UsageError(
            f"this network's head gives labels, not text; ask `lm.{verb}`, or take a model without that head"
        )
    if config.shape == "encoder":
        fills = config.head.kind == "mlm"
        instead = "let it fill blanks (`fill`, --fill)" if fills else "ask this one for vectors (`lm.embed`)"
        raise UsageError(
            "an encoder-only network reads what stands before and after a token, so it cannot continue a "
            f"text; take a decoder or an encoder-decoder, or {instead}"
        )


@dataclass(frozen=True)
class Request:
    """A prompt of at least one token, and how to answer it; the answer goes on after the prompt.

    An encoder-decoder reads the source, and its prompt is what the decoder starts with.
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
            raise UsageError("a decoder reads no source; make it a part of the prompt")
        for name, ids in reads.items():
            if not ids:
                raise UsageError(f"the {name} has no token to start from; give at least one")
            if config.max_positions is not None and len(ids) > config.max_positions:
                raise UsageError(
                    f"the {name} has {len(ids)} tokens, but the context holds {config.max_positions}; "
                    f"shorten the {name} or take a model with a longer context"
                )
        ids = (*self.prompt_ids, *self.source_ids, *(self.settings.eos_ids or ()))
        wrong = next((i for i in ids if not 0 <= i < config.vocab_size), None)
        if wrong is not None:
            raise UsageError(
                f"token id {wrong} is not in the vocabulary: ids go from 0 to {config.vocab_size - 1}"
            )
        if self.settings.stop and not has_tokenizer:
            raise UsageError(
                f"stop={self.settings.stop!r} needs text, and this model has no tokenizer; give eos_ids"
            )


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
