"""Write the spans that were cut out of a text: the objective of T5, and UL2's mixture of spans."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import ConfigError
from seedbed.data.batch import Example
from seedbed.data.objective import Objective, require_share
from seedbed.data.records import Record
from seedbed.data.vocabulary import Vocabulary
from seedbed.objectives._sampling import count, record_rng, segments

# UL2's denoisers (Tay et al. 2205.05131, section 3.1): rate, mean length; 0 is one span at the end (S).
# R, S and X have a third of the tokens each.
UL2: dict[tuple[float, float], float] = {
    (0.15, 3.0): 1 / 6,
    (0.15, 8.0): 1 / 6,
    (0.25, 0.0): 1 / 3,
    (0.5, 3.0): 1 / 12,
    (0.5, 8.0): 1 / 12,
    (0.15, 64.0): 1 / 12,
    (0.5, 64.0): 1 / 12,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `[objective]` table of this objective."""

    name: Literal["span_corruption"] = "span_corruption"  # the objective, also --objective
    rate: float = 0.15  # share of the tokens that are cut out [above 0 and below 1]
    mean_span_tokens: float = 3.0  # mean length; 0: one span, at the end of the text [1 or more, or 0]
    mixture: Literal["none", "ul2"] = "none"  # of ul2: seven pairs of rate and mean_span_tokens

    def __post_init__(self) -> None:
        require_share("rate", self.rate)
        if not (self.mean_span_tokens == 0 or 1 <= self.mean_span_tokens < math.inf):
            raise ConfigError(
                f"objective.mean_span_tokens={self.mean_span_tokens} is not allowed: give a number from 1, "
                "or 0 for one span at the end"
            )


class SpanCorruption(Objective):
    """T5's objective (Raffel et al. 1910.10683, section 3.1.4): sentinels replace spans of the source.

    The source is `a <0> b <1>`, the target `<0> x <1> y`, each with an end token; together they have every
    token of the text. Sentinels and the end token are targets too. The source begins with the special tokens
    that the tokenizer puts before every text, such as BART's <s>.
    """

    settings_class = Settings
    shapes = ("encoder-decoder",)
    needs = ("eos", "sentinels")

    def __init__(self, vocabulary: Vocabulary, settings: Settings) -> None:
        self.vocabulary, self.settings = vocabulary, settings
        vocabulary.require(self.needs, settings.name)
        self._start_id = vocabulary.decoder_start(settings.name)
        self._sentinels = np.array(vocabulary.sentinel_ids, dtype=np.int64)
        self._begin = np.array(vocabulary.begin_ids, dtype=np.int64)
        self._end = np.array(vocabulary.closing_ids, dtype=np.int64)

    def mixture(self) -> list[tuple[Objective, float]]:
        """Return itself, or UL2's seven settings."""
        if self.settings.mixture == "none":
            return [(self, 1.0)]
        chosen = (
            (replace(self.settings, mixture="none", rate=rate, mean_span_tokens=mean), share)
            for (rate, mean), share in UL2.items()
        )
        return [(SpanCorruption(self.vocabulary, settings), share) for settings, share in chosen]

    def record_tokens(self, context_tokens: int) -> int:
        """The longest text whose source and target are both within the context."""
        if self._most(1) > context_tokens:
            raise ConfigError(
                f"training.context_tokens={context_tokens} leaves no token for a gap and its end; set it to "
                f"at least {self._most(1)}"
            )
        low, high = 1, 2 * context_tokens
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._most(middle) <= context_tokens else (low, middle - 1)
        if (spans := self._most_spans(low)) > len(self._sentinels):
            raise ConfigError(
                f"training.context_tokens={context_tokens} makes {spans} gaps in a text, and the tokenizer "
                f"has {len(self._sentinels)} sentinels; lower it, or raise objective.mean_span_tokens"
            )
        return low

    def _most(self, num_tokens: int) -> int:
        """Maximum length of source and target of a text of this many tokens."""
        cut, spans = self.settings.rate * num_tokens, self._most_spans(num_tokens)
        kept = num_tokens - max(min(1, num_tokens - 1), int(cut))
        return max(len(self._begin) + kept, math.ceil(cut)) + spans + len(self._end)

    def _most_spans(self, num_tokens: int) -> int:
        mean = self.settings.mean_span_tokens
        return max(1, math.ceil(math.ceil(self.settings.rate * num_tokens) / mean)) if mean else 1

    def example(self, record: Record, seed: int) -> Example:
        """Make a row with sentinels in the source, and each sentinel with its span as the targets."""
        rng = record_rng(seed, record)
        ids = self.vocabulary.text(record.ids)
        kept, cut = self._spans(rng, len(ids))
        sentinels = self._sentinels[: len(cut)]
        pattern = np.repeat(np.tile([True, False], len(cut)), np.stack([kept, cut], 1).ravel())
        stays = pattern if len(cut) else np.ones(len(ids), dtype=np.bool_)
        source = np.insert(ids[stays], np.cumsum(kept), sentinels)
        target = np.insert(ids[~stays], np.cumsum(cut) - cut, sentinels)
        targets = np.concatenate([target, self._end])
        inputs = np.concatenate([[self._start_id], targets[:-1]])
        return Example(inputs, targets, source_ids=np.concatenate([self._begin, source, self._end]))

    def _spans(
        self, rng: np.random.Generator, num_tokens: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lengths of each kept span and of the gap after it, as in T5's `random_spans_noise_mask`."""
        num_cut = min(max(1, count(rng, self.settings.rate * num_tokens)), num_tokens - 1)
        if num_cut < 1:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        mean = self.settings.mean_span_tokens
        num_spans = count(rng, num_cut / mean) if mean else 1
        num = min(max(1, num_spans), num_cut, num_tokens - num_cut)
        return segments(rng, num_tokens - num_cut, num), segments(rng, num_cut, num)


OBJECTIVE = SpanCorruption
