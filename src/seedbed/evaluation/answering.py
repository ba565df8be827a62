"""How a model answers the records of a task: by the likelihood of labels, by generation, or with a head."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from seedbed.base.errors import SeedbedWarning, UsageError
from seedbed.evaluation.metrics.bootstrap import Numbers
from seedbed.evaluation.metrics.likelihood import Likelihood
from seedbed.evaluation.prompts import Prompts
from seedbed.evaluation.records import Record
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel

How = Literal["likelihood", "generation", "head"]
Shots = Callable[[Sequence[str]], list[list[Record]]]  # the examples of each text
Calibration = Literal["none", "batch", "content_free"]
HOWS: tuple[str, ...] = get_args(How)
CALIBRATIONS: tuple[str, ...] = get_args(Calibration)
CONTENT_FREE = ("N/A", "[MASK]", "-")  # inputs that say nothing (Zhao et al. 2102.09690, section 5)


@dataclass(frozen=True)
class Answer:
    """An output in the form of the task, its probability, and how many shots its prompt had.

    `logprobs` are the log-likelihoods per token of the labels, `text` what was generated. The score of a
    label is its share of all labels; that of a text the geometric mean of its tokens' probabilities.
    """

    output: Any
    score: float
    num_shots: int = 0
    text: str | None = None
    logprobs: list[float] | None = None

    def fields(self) -> dict[str, Any]:
        """The same as JSON, without what is not there."""
        found = {"prediction": self.output, "score": self.score, "num_shots": self.num_shots}
        more = {"text": self.text, "logprobs": self.logprobs}
        return found | {name: value for name, value in more.items() if value is not None}


@dataclass(kw_only=True)
class Answering:
    """A model with what a task needs of it: it answers records. `calibration` is subtracted from labels'."""

    lm: LanguageModel
    settings: TaskSettings
    how: How
    chat: bool
    shots: Shots
    calibration: Mapping[str, float] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    has_warned: bool = False

    def __post_init__(self) -> None:
        require_able(self.lm, self.settings, self.how)
        self.prompts = None if self.how == "head" else Prompts(self.lm, self.settings, chat=self.chat)
        if self.how == "likelihood" and self.settings.words:
            assert self.prompts is not None
            self._endings = self.prompts.endings(self.settings.words)

    @property
    def max_new_tokens(self) -> int:
        """Of an answer; the use case's own number is at most half of the context."""
        half = max(1, (self.lm.config.max_positions or sys.maxsize) // 2)
        return self.settings.max_new_tokens or min(self.settings.task.max_new_tokens, half)

    def answer(self, records: Sequence[Record]) -> list[Answer]:
        """The answers of some records, read together. Errors: UsageError for one that is too long."""
        if self.how == "head":
            return self._by_head(records)
        if self.how == "likelihood":  # without labels the likelihoods of the texts themselves are all
            return self._by_likelihood(records) if self.settings.words else [Answer("", 0.0)] * len(records)
        return self._by_generation(records)

    def likelihoods(self, records: Sequence[Record]) -> list[Likelihood]:
        """The likelihood of the references themselves; of a record without one, that of its whole text."""
        assert self.prompts is not None
        pairs: list[tuple[Sequence[int], Sequence[int]]] = []
        texts = [str(one.text if one.reference is None else one.references[0]) for one in records]
        shots = self.shots([record.text for record in records])
        for record, text, own in zip(records, texts, shots, strict=True):
            if record.reference is None:
                pairs.append((self.lm.prompt_ids(""), self.prompts.encode(text)))
            else:
                ids = self.prompts.tokens(f"{self.prompts.text(record)[1]}{text}")
                pairs.append((self.prompts.ids(record, own, room=len(ids) - 1)[0], ids))
        scores = self.lm.score_batch(pairs)
        return [
            Likelihood(score.logprob, len(score.token_ids), len(text.encode()))
            for score, text in zip(scores, texts, strict=True)
        ]

    def content_free(self) -> dict[str, float]:
        """The mean log-likelihood of each label after inputs that say nothing."""
        assert self.prompts is not None
        names = dict.fromkeys({*self.prompts.fields(Record("", None, "", {})), *self.prompts.names}, "")
        records = [Record(text, None, f"the input {text!r}", names) for text in CONTENT_FREE]
        found = [answer.logprobs for answer in self._by_likelihood(records)]
        means = np.array(found).mean(0).tolist()
        return dict(zip(self.settings.words, means, strict=True))

    def _prompted(self, records: Sequence[Record], room: int) -> list[tuple[Sequence[int], int]]:
        """The tokens and the number of shots of each record."""
        assert self.prompts is not None
        shots = self.shots([record.text for record in records])
        found = [self.prompts.ids(record, own, room=room) for record, own in zip(records, shots, strict=True)]
        short = [kept for (_, kept), own in zip(found, shots, strict=True) if kept < len(own)]
        if short and not self.has_warned:
            self.has_warned = True
            context = self.lm.config.max_positions
            warnings.warn(
                f"the context of {context} tokens has no room for all {len(shots[0])} examples beside some "
                f"texts: {len(short)} of the first {len(records)} prompts have fewer, at least {min(short)}",
                SeedbedWarning,
                stacklevel=2,
            )
        return found

    def _by_likelihood(self, records: Sequence[Record]) -> list[Answer]:
        longest = max(map(len, self._endings))
        found = self._prompted(records, longest - 1)
        pairs = [(ids, ending) for ids, _ in found for ending in self._endings]
        each = [score.logprob / len(score.token_ids) for score in self.lm.score_batch(pairs)]
        table = np.array(each).reshape(len(records), -1)
        outputs = self.chosen(table)
        rows = zip(found, table.tolist(), outputs, strict=True)
        return [Answer(label, share, shots, logprobs=row) for (_, shots), row, (label, share) in rows]

    def chosen(self, logprobs: Numbers) -> list[tuple[str, float]]:
        """The label and its share of each row of log-likelihoods (records, labels), calibrated."""
        labels = list(self.settings.words)
        found = logprobs - np.array([self.calibration.get(label, 0.0) for label in labels])
        shares = np.exp(found - found.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        best = found.argmax(1).tolist()
        return [(labels[i], float(row[i])) for i, row in zip(best, shares, strict=True)]

    def _by_generation(self, records: Sequence[Record]) -> list[Answer]:
        assert self.prompts is not None
        task = self.settings.task
        found = self._prompted(records, self.max_new_tokens - 1)
        stop = self.stops(has_examples=any(kept for _, kept in found))
        how: dict[str, Any] = {"temperature": 0.0, "stop": stop, "logprobs": 1}
        if self.generation.get("temperature"):
            how["seed"] = 0  # the same answers each time
        how |= dict(self.generation)
        ids = [list(tokens) for tokens, _ in found]
        completions = self.lm.generate(ids, self.max_new_tokens, **how)
        answers = []
        for record, (_, shots), completion in zip(records, found, completions, strict=True):
            text = completion.text or ""
            output = task.read(text, self.prompts.fields(record), self.settings.words)
            each = [one.logprob for one in completion.logprobs or ()]
            score = math.exp(sum(each) / len(each)) if each else 0.0
            answers.append(Answer(output, score, shots, text=text))
        return answers

    def stops(self, *, has_examples: bool) -> tuple[str, ...]:
        """The texts that end an answer: the task's, and what ends the examples; a chat ends by itself."""
        if self.chat:
            return ()
        ends = (self.settings.separator,) if has_examples and self.settings.separator else ()
        return tuple(dict.fromkeys((*self.settings.task.stop, *ends)))

    def _by_head(self, records: Sequence[Record]) -> list[Answer]:
        try:
            if self.lm.config.head.kind == "tagging":
                taggings = self.lm.tag([record.words for record in records])
                return [
                    Answer([w.label for w in one.words], _mean_probability([w.score for w in one.words]))
                    for one in taggings
                ]
            found = self.lm.classify([record.text for record in records])
        except UsageError as error:
            if len(records) == 1:
                raise UsageError(f"{records[0].origin}: {error}") from None
            return [answer for record in records for answer in self._by_head([record])]
        return [Answer(one.label, one.scores[one.label]) for one in found]


def _mean_probability(probabilities: Sequence[float]) -> float:
    """The geometric mean, which does not underflow."""
    return math.exp(math.fsum(math.log(max(p, 1e-45)) for p in probabilities) / len(probabilities))


def require_able(lm: LanguageModel, settings: TaskSettings, how: How) -> None:
    """Refuse with a UsageError a model that cannot do a task."""
    head, task = lm.config.head, settings.task
    if how == "head":
        if head.kind != task.head:
            raise UsageError(
                f"the task {settings.title} is not answered by this model's head ({head.kind}); a "
                f"{task.head} head is needed, or a model that continues texts"
                if task.head
                else f"the task {settings.title} has no head; take a model that continues texts"
            )
        return
    if head.labels or lm.config.shape == "encoder":
        what = f"has a {head.kind} head" if head.labels else "is an encoder"
        able = "; it fits tasks of labels" if head.labels else ""
        raise UsageError(
            f"this model {what}, so it cannot answer the task {settings.title} by prompt{able}; take a "
            "decoder or an encoder-decoder"
        )


def same_shots(shots: Sequence[Record]) -> Shots:
    """The same examples for all texts."""
    return lambda texts: [list(shots)] * len(texts)
