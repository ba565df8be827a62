"""What a run reads of its shards: the records of each part of its mixture, and those that are too long."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seedbed.base.errors import DataError, SeedbedWarning
from seedbed.base.notices import Notify
from seedbed.base.runtime import derive_seed
from seedbed.data.loader import MixturePart
from seedbed.data.mixture import mixture_weights
from seedbed.data.objective import Objective
from seedbed.data.prepare import CorpusShards
from seedbed.data.records import PairSource, Source, TokenSource
from seedbed.runs.settings import RunSettings
from seedbed.training.settings import TrainingSettings

WHOLE = ("pairs", "conversations")  # an answer without its end, or to a part of its prompt, teaches nothing
MOST_NAMES = 8  # of tasks in a message
MEASURED_RECORDS = 1024  # of a task, of evenly spaced lengths, whose mean tokens are those of all


def source_of(
    objective: Objective,
    shards: CorpusShards,
    training: TrainingSettings,
    *,
    validates: bool = False,
    number: int = 0,
    records: NDArray[np.int64] | None = None,
) -> Source:
    """The records of one part of a mixture, those with the numbers `records`, or the held-out ones."""
    context = training.context_tokens
    seed = derive_seed(training.seed, f"part {number}") if number else training.seed
    shard = shards.validation if validates else shards.train
    if objective.learns_from == "text":
        return TokenSource(
            shard,
            context_tokens=objective.record_tokens(context),
            seed=seed,
            shuffle=not validates,
            overlap=objective.overlap,
            cut_anew=objective.cut_anew,
        )
    answers = shards.validation_answers if validates else shards.train_answers
    assert answers is not None
    return PairSource(
        shard,
        answers,
        max_input_tokens=objective.max_input_tokens(answers.lengths, context),
        seed=seed,
        shuffle=not validates,
        cuts=objective.learns_from not in WHOLE,
        cuts_answers=objective.learns_from == "tags",
        numbers=records,
    )


def mixture_of(
    objective: Objective, shards: CorpusShards, settings: RunSettings, notify: Notify
) -> list[MixturePart]:
    """The parts that are trained: those of the objective, or the tasks of the data with their weights.

    A weight is a share of the records, which the mean tokens of the task's examples make one of the tokens.
    """
    training = settings.training
    if shards.train_groups is None:
        return [
            MixturePart(source_of(part, shards, training, number=number), part, share)
            for number, (part, share) in enumerate(objective.mixture())
        ]
    order = sorted(range(len(shards.groups)), key=lambda group: shards.groups[group])
    names = [shards.groups[group] for group in order]
    sources = []
    for number, group in enumerate(order):
        records = np.flatnonzero(shards.train_groups == group)
        try:
            source = source_of(objective, shards, training, number=number, records=records)
        except DataError as error:  # none of them is within the context
            raise DataError(f"{names[number]}: {error}, or leave it out with data.exclude") from None
        assert isinstance(source, PairSource)
        sources.append(source)
    counts = [len(source.kept) for source in sources]
    weights = mixture_weights(counts, settings.data)
    rows = zip(names, weights, counts, strict=True)
    shares = [f"{name} {weight / sum(weights):.0%} ({count:,} records)" for name, weight, count in rows]
    more = f", and {len(shares) - MOST_NAMES} more" if len(shares) > MOST_NAMES else ""
    notify(f"mixture: {', '.join(shares[:MOST_NAMES])}{more}")
    return [
        MixturePart(source, objective, weight * _mean_tokens(source, objective, training.seed))
        for source, weight in zip(sources, weights, strict=True)
    ]


def _mean_tokens(source: PairSource, objective: Objective, seed: int) -> float:
    """The mean tokens of a source's examples, of all or of evenly spaced ones by their lengths."""
    lengths = source.inputs.lengths[source.kept] + source.answers.lengths[source.kept]
    ranked = source.kept[np.argsort(lengths, kind="stable")]
    places = (np.arange(min(len(ranked), MEASURED_RECORDS)) + 0.5) * len(ranked)
    some = ranked[(places / min(len(ranked), MEASURED_RECORDS)).astype(np.int64)]
    return float(np.mean([objective.example(each, seed).num_tokens for each in source.read(0, some)]))


def needed_tokens(source: PairSource, objective: Objective, context_tokens: int) -> int:
    """The smallest `context_tokens`, from this one on, within which each record of a source is whole."""
    inputs, answers = (shard.lengths[source.numbers] for shard in (source.inputs, source.answers))

    def holds_all(context: int) -> bool:
        return bool((objective.max_input_tokens(answers, context) >= inputs).all())

    least, most = context_tokens, 2 * context_tokens
    while not holds_all(most):
        least, most = most, 2 * most
    return least + bisect_left(range(least, most), True, key=holds_all)


def warn_of_length(
    sources: Sequence[Source],
    objective: Objective,
    context_tokens: int,
    *,
    max_positions: int | None = None,
    what: str = "records",
) -> None:
    """Warn of labelled records that are truncated or left out, with the context that would take all."""
    found = [source for source in sources if isinstance(source, PairSource)]
    total = sum(len(source.numbers) for source in found)
    num_cut = sum(source.num_cut for source in found)
    num_out = sum(source.num_left_out for source in found)
    if not num_cut and not num_out:
        return
    needed = max(needed_tokens(source, objective, context_tokens) for source in found)
    enough = f"{needed:,} would take all"
    if max_positions is not None and needed > max_positions:
        enough = f"the longest takes {needed:,}, and this network has {max_positions:,} positions"
    for count, done in ((num_cut, "are truncated"), (num_out, "are left out")):
        if count:
            warnings.warn(
                f"{count:,} of {total:,} {what} are longer than training.context_tokens={context_tokens} and "
                f"{done}; {enough}",
                SeedbedWarning,
                stacklevel=3,
            )
