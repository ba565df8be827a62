"""In-context learning: labels by their log-likelihood after a prompt with examples (Brown et al. 2020)."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.evaluation.metrics.bootstrap import Numbers
from seedbed.generation.language_model import LanguageModel

DEFAULT_PROMPT = "Text: {input}\nLabel: {target}"
BETWEEN = "\n\n"  # examples
Choice = Literal["random", "balanced"]


class Example(NamedTuple):
    """A text and its label, as the prompt says it."""

    text: str
    label: str


@dataclass(frozen=True)
class Prompt:
    """A template of one example: `{input}` and, at its end, `{target}`, once each.

    Errors: UsageError for another text.
    """

    template: str = DEFAULT_PROMPT

    def __post_init__(self) -> None:
        counts = [self.template.count(name) for name in ("{input}", "{target}")]
        if counts != [1, 1] or not self.template.endswith("{target}"):
            raise UsageError(
                f"the prompt {self.template[:60]!r} is not allowed: give a text with {{input}} once and "
                "{target} once, at its end"
            )

    def of(self, text: str, label: str | None = None) -> tuple[str, str]:
        """The text up to the label, without the space before it, and the label with that space."""
        before, _ = self.template.split("{target}")
        before = before.replace("{input}", text)
        stripped = before.rstrip(" ")
        return stripped, before[len(stripped) :] + (label or "")

    def asks(self, shots: Sequence[Example], text: str) -> str:
        """The prompt of a text behind its examples."""
        parts = ["".join(self.of(shot.text, shot.label)) for shot in shots]
        return BETWEEN.join([*parts, self.of(text)[0]])


def choose_shots(
    pool: Sequence[Example],
    number: int,
    *,
    choice: Choice = "balanced",
    seed: int = 0,
    apart_from: Sequence[str] = (),
) -> list[Example]:
    """Examples of a pool, none of whose texts is one of `apart_from`.

    `balanced` alternates over the labels, `random` takes any. The same seed gives the same ones, and fewer of
    them are the first of more. Errors: UsageError where there are not enough.
    """
    tested = {text.strip() for text in apart_from}
    order = list(range(len(pool)))
    random.Random(seed).shuffle(order)
    free = [pool[i] for i in order if pool[i].text.strip() not in tested]
    if choice == "balanced":
        labels = sorted({example.label for example in free})
        random.Random(seed).shuffle(labels)
        groups = [[example for example in free if example.label == label] for label in labels]
        most = max(map(len, groups), default=0)
        free = [group[i] for i in range(most) for group in groups if i < len(group)]
    if number > len(free):
        raise UsageError(
            f"num_shots={number} is more than the {len(free)} examples that are not tested; give fewer, or "
            "more examples"
        )
    return free[:number]


def label_scores(
    lm: LanguageModel,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    prompt: Prompt | None = None,
    shots: Sequence[Example] = (),
) -> tuple[Numbers, int]:
    """The log-likelihood per token of each label after each text (texts, labels), and how many shots it had.

    Shots are left out, the first ones first and for all texts, until the longest prompt is within the
    context; a warning says how many. Errors: UsageError where a text alone is not.
    """
    prompt, tokenizer = prompt or Prompt(), lm.tokenizer
    if tokenizer is None:
        raise UsageError("labels need a tokenizer, and this model has none; give a model with one")
    space = prompt.of("")[1]
    endings = [tokenizer.encode(space + label) for label in labels]
    if empty := [label for label, ids in zip(labels, endings, strict=True) if not ids]:
        raise UsageError(f"the label {empty[0]!r} has no token; give labels with letters")
    context, longest = lm.config.max_positions, max(map(len, endings))
    kept = list(shots)
    while True:
        asked = tokenizer.encode_batch([prompt.asks(kept, text) for text in texts])
        most = max(map(len, asked)) + longest - 1
        if context is None or most <= context:
            break
        if not kept:
            raise UsageError(
                f"the longest text has {most} tokens with its prompt, but the context holds {context}; leave "
                "it out, or take a model with a longer context"
            )
        kept = kept[1:]
    if len(kept) < len(shots):
        warnings.warn(
            f"{len(kept)} of {len(shots)} examples are within the context of {context} tokens; the others "
            "are left out",
            SeedbedWarning,
            stacklevel=2,
        )
    pairs = [(ids, ending) for ids in asked for ending in endings]
    scores = [score.logprob / len(score.token_ids) for score in lm.score_batch(pairs)]
    return np.array(scores).reshape(len(texts), len(labels)), len(kept)


def calibrated(scores: Numbers) -> Numbers:
    """Scores less each label's mean over the texts (batch calibration, Zhou et al. 2309.17249)."""
    found: Numbers = scores - scores.mean(0)
    return found
