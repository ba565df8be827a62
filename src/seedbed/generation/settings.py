"""The settings of an answer, each defined once: its name, type, default, allowed values and meaning.

`LanguageModel.generate`, `chat` and `stream`, the flags of `seedbed generate` and `seedbed chat`, and `/set`
use these. A new one is a field of GenerationSettings and its type in GenerationOptions. This file imports no
torch, so `--help` is instant.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, Literal, NamedTuple, TypedDict

from seedbed.base.arguments import brief
from seedbed.base.errors import ConfigError, SeedbedWarning, UsageError, nearest

EarlyStopping = bool | Literal["never"]


class AnswerOptions(TypedDict, total=False):
    """The settings of GenerationSettings as keyword arguments, for type checkers, but `num_samples`."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    stop: str | Sequence[str]
    eos_ids: Sequence[int] | None
    seed: int | None
    logprobs: int
    num_beams: int | None
    length_penalty: float | None
    early_stopping: EarlyStopping | None


class GenerationOptions(AnswerOptions, total=False):
    """All of them; a test compares them with GenerationSettings."""

    num_samples: int


class Allowed(NamedTuple):
    """The allowed values of a setting: a test, and its description."""

    contains: Callable[[Any], bool]
    words: str


def whole(least: int, most: int = 2**31 - 1) -> Allowed:
    """Whole numbers from `least` to `most`."""
    bits = most.bit_length()
    words = f"of at least {least}, below 2^{bits}" if most == 2**bits - 1 else f"from {least} to {most}"
    return Allowed(
        lambda x: isinstance(x, int) and not isinstance(x, bool) and least <= x <= most,
        f"a whole number {words}",
    )


def between(least: float, most: float, words: str) -> Allowed:
    """Numbers from `least` to `most`."""
    return Allowed(lambda x: _is_number(x) and least <= x <= most, words)


class Setting(NamedTuple):
    """A setting's meaning, allowed values and scope; `neutral` values have no effect."""

    meaning: str
    allowed: Allowed
    scope: Literal["always", "sampling", "search"] = "always"
    neutral: tuple[float, ...] = ()


def setting(default: Any, meaning: str, allowed: Allowed, *more: Any) -> Any:
    """A field of GenerationSettings, whose meaning is also the help of its flag."""
    return field(default=default, metadata={"setting": Setting(meaning, allowed, *more)})


def _is_number(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool)


_PROBABILITY = between(0, 1, "a probability from 0 to 1")
_MASS = Allowed(lambda x: _is_number(x) and 0 < x <= 1, "a probability above 0, at most 1")
_TEMPERATURE = Allowed(
    lambda x: _is_number(x) and (x == 0 or 1e-6 <= x <= 1e6),
    "0 (always the most likely token) or a number from 1e-6 to 1e6",
)
_PENALTY = between(1e-6, 1e6, "a number from 1e-6 to 1e6; 1 changes nothing")
_LENGTH_PENALTY = between(-20, 20, "a number from -20 to 20; 0 uses the probability alone")
_STOP = Allowed(
    lambda x: all(isinstance(text, str) and text for text in x),
    "a text or several, each of at least one character",
)
_EOS_IDS = Allowed(lambda x: all(i >= 0 for i in x), "a list of token ids; () for none")
_EARLY = Allowed(
    lambda x: isinstance(x, bool) or (isinstance(x, str) and x == "never"), "True, False or 'never'"
)


class Sampling(NamedTuple):
    """How a token is sampled; rows with equal ones are sampled together. Temperature 0 is greedy."""

    temperature: float
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How to answer a prompt.

    None is the model's own setting, as its files have it (generation/own.py); for the engine, which knows no
    files, it is a value without effect.

    Scores change in the order of `transformers`: first by `repetition_penalty` and `no_repeat_ngram_size`,
    which count prompt and answer (for an encoder-decoder the answer alone), also without sampling; then by
    `temperature`, `top_k`, `top_p`, `min_p` and `typical_p`. An answer also ends where `no_repeat_ngram_size`
    leaves no token. `eos_ids` default to the model's. `num_samples` answers share the computation of their
    prompt. `logprobs` n > 0 requests the log-probability of each token and of the n most likely in its place,
    from the network itself, before all of these.

    `num_beams` > 1 searches instead of sampling (generation/beam.py): `num_samples` are then the best answers
    found, at most as many as beams. An answer's score is its summed log-probability / its number of tokens **
    `length_penalty`. Errors: ConfigError for a value that is not allowed, alone or beside another one.
    """

    max_new_tokens: int = setting(64, "Maximum number of new tokens.", whole(1))
    temperature: float | None = setting(
        None, "0 is greedy, 1 the network's own distribution.", _TEMPERATURE, "sampling", (0, 1)
    )
    top_k: int | None = setting(
        None, "Sample among the k most likely tokens; 0 keeps all.", whole(0), "sampling", (0,)
    )
    top_p: float | None = setting(
        None,
        "Sample from the smallest set whose probabilities sum to p; 1 keeps all.",
        _PROBABILITY,
        "sampling",
        (1,),
    )
    min_p: float | None = setting(
        None,
        "Sample among tokens with at least this share of the most likely token's probability; 0 keeps all.",
        _PROBABILITY,
        "sampling",
        (0,),
    )
    typical_p: float | None = setting(
        None,
        "Sample from the most typical tokens whose probabilities sum to p; 1 keeps all.",
        _MASS,
        "sampling",
        (1,),
    )
    repetition_penalty: float | None = setting(
        None, "Above 1: tokens that the text already has become less likely.", _PENALTY, "always", (1,)
    )
    no_repeat_ngram_size: int | None = setting(
        None, "Never repeat a sequence of n tokens; 0 allows all repetition.", whole(0), "always", (0,)
    )
    stop: str | Sequence[str] = setting((), "End before this text. Repeat for more.", _STOP, "sampling")
    eos_ids: Sequence[int] | None = setting(None, "Tokens that end an answer.", _EOS_IDS)
    seed: int | None = setting(None, "The same seed gives the same answer.", whole(0, 2**63 - 1))
    num_samples: int = setting(1, "Completions per prompt.", whole(1))
    logprobs: int = setting(
        0,
        "Log-probabilities of tokens and of the n most likely (on the command line with --json).",
        whole(0),
        "sampling",
    )
    num_beams: int | None = setting(
        None,
        "Number of beams; above 1: beam search, and num_samples are the best answers found.",
        whole(1, 1024),
        "always",
        (1,),
    )
    length_penalty: float | None = setting(
        None,
        "With beams: above 0 favours long answers, below 0 short ones; 1 divides by the length.",
        _LENGTH_PENALTY,
        "search",
        (1,),
    )
    early_stopping: bool | Literal["never"] | None = setting(
        None,
        "With beams: end once as many answers are found (true), when no beam is better now (false), or when "
        "none can become better (never).",
        _EARLY,
        "search",
        (False,),
    )

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        object.__setattr__(self, "stop", _tuple_of("stop", stop))
        if self.eos_ids is not None:
            ids = _tuple_of("eos_ids", self.eos_ids, operator.index)
            object.__setattr__(self, "eos_ids", ids)
        for name, about, default in named_settings():
            value = getattr(self, name)
            if _is_number(value) and type(value) not in (int, float):  # a numpy number, or a fraction
                value = float(value)
                object.__setattr__(self, name, value)
            if not ((value is None and default is None) or about.allowed.contains(value)):
                end = ", or leave it out" if default is None else ""
                raise ConfigError(f"{name}={brief(value)} is not allowed: give {about.allowed.words}{end}")
        self._check_beams()

    def _changed(self) -> Iterator[tuple[str, Any, Setting]]:
        """The name, value and description of each setting with an effect beyond its default's."""
        for name, about, default in named_settings():
            value = getattr(self, name)
            if value not in (default, *about.neutral):
                yield name, value, about

    @property
    def samples(self) -> bool:
        """Whether a setting asks for sampled or greedy tokens, which a search has not."""
        return self.temperature is not None or any(a.scope == "sampling" for _, _, a in self._changed())

    def _check_beams(self) -> None:
        """Refuse settings that have no effect in a search, or none without one."""
        beams = self.num_beams or 1
        if self.num_samples > beams > 1:
            raise ConfigError(
                f"num_samples={self.num_samples} is not allowed beside num_beams={beams}: a search keeps one "
                f"answer per beam; give at most {beams}"
            )
        for name, value, about in self._changed():
            if about.scope == "search" and beams == 1:
                raise ConfigError(
                    f"{name}={value!r} has no effect with num_beams=1; leave it out or set num_beams to at "
                    "least 2"
                )
            if about.scope == "sampling" and beams > 1:
                why = {
                    "logprobs": "a search scores whole answers; `lm.score` gives their tokens'",
                    "stop": "a search has an answer only at its end",
                }.get(name, "a search does not sample")
                raise ConfigError(
                    f"{name}={value!r} is not allowed beside num_beams={beams}: {why}; leave {name} out, or "
                    "set num_beams=1"
                )

    @classmethod
    def of(cls, max_new_tokens: int, options: GenerationOptions) -> GenerationSettings:
        """The settings from keyword arguments; UsageError for an unknown name."""
        allowed = [name for name, _, _ in named_settings()]
        for name in options:
            if name not in allowed:
                raise UsageError(f"there is no setting {name!r} of an answer; {nearest(name, allowed)}")
        settings = cls(max_new_tokens=max_new_tokens, **options)
        unused = [name for name, _, _ in settings._changed() if name in Sampling._fields[1:]]
        if settings.temperature == 0 and unused:
            warnings.warn(
                f"no effect at temperature 0, which takes the most likely token: {', '.join(unused)}",
                SeedbedWarning,
                stacklevel=3,
            )
        return settings

    @property
    def sampling(self) -> Sampling:
        """How each token is sampled."""
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(temperature, self.top_k or None, *(getattr(self, n) for n in Sampling._fields[2:]))


def named_settings() -> Iterator[tuple[str, Setting, Any]]:
    """The name of each setting, its description, and its default."""
    return ((each.name, each.metadata["setting"], each.default) for each in fields(GenerationSettings))


def _tuple_of(name: str, values: Any, make: Callable[[Any], Any] = lambda value: value) -> tuple[Any, ...]:
    try:
        return tuple(make(value) for value in values)
    except TypeError:
        words = (_STOP if name == "stop" else _EOS_IDS).words
        raise ConfigError(f"{name}={brief(values)} is not allowed: give {words}") from None
