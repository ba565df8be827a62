"""The examples of a prompt: the same for all records, or those nearest to each."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from seedbed.base.errors import UsageError
from seedbed.evaluation.records import Record
from seedbed.evaluation.task import TaskSettings
from seedbed.generation.language_model import LanguageModel
from seedbed.retrieval.bm25 import BM25Index
from seedbed.retrieval.vectors import VectorIndex

Choice = Literal["balanced", "random", "first", "bm25", "embeddings"]
CHOICES: tuple[str, ...] = get_args(Choice)
NEAREST = ("bm25", "embeddings")
MORE = 8  # candidates beyond those that are used, since the record itself is left out


def free_of(pool: Sequence[Record], tested: Sequence[Record]) -> list[Record]:
    """The records of a pool whose texts are not tested, each text once."""
    taken = {_key(record.text) for record in tested}
    free: dict[str, Record] = {}
    for record in pool:
        if (key := _key(record.text)) not in taken:
            free.setdefault(key, record)
    return list(free.values())


def _key(text: str) -> str:
    """A text without case, white space, marks that are not shown, and other forms of its characters (NFKC).

    Two that differ in these alone are the same item.
    """
    shown = (letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", "".join(shown)).casefold().split())


def choose_shots(
    pool: Sequence[Record], number: int, settings: TaskSettings, *, choice: Choice = "balanced", seed: int = 0
) -> list[Record]:
    """The examples of a pool for all records, in the order of the prompt.

    `balanced` alternates over the labels, where the task has labels (of names: their types, and none),
    `random` takes any, `first` the pool's first ones. The same seed gives the same ones, and fewer of them
    are the first of more. Errors: UsageError where there are not enough.
    """
    order = list(range(len(pool)))
    if choice != "first":
        random.Random(seed).shuffle(order)
    free = [pool[i] for i in order]
    if choice == "balanced":
        groups: dict[str, list[Record]] = {}
        for record in free:
            groups.setdefault(min(settings.task.labels(record.reference), default=""), []).append(record)
        labels = sorted(groups)
        random.Random(seed).shuffle(labels)
        most = max(map(len, groups.values()), default=0)
        free = [groups[label][i] for i in range(most) for label in labels if i < len(groups[label])]
    require_enough(number, len(free))
    return free[:number]


def require_enough(number: int, num_free: int) -> None:
    """Refuse with a UsageError more shots than there are examples."""
    if number and not num_free:
        raise UsageError("all examples are tested, too; give --examples with other records, as training data")
    if number > num_free:
        raise UsageError(
            f"num_shots={number} is more than the {num_free} examples that are not tested; give fewer, or "
            "more examples"
        )


def nearest_shots(
    pool: Sequence[Record], number: int, choice: Choice, lm: LanguageModel
) -> Callable[[Sequence[str]], list[list[Record]]]:
    """A function from texts to the examples nearest to each, the nearest last, beside the question.

    By words (`bm25`), or by the model's own vectors (`embeddings`). An example with the text itself is left
    out; one with no word in common comes first, in the pool's order.
    """
    require_enough(number, len(pool))
    vectors = VectorIndex(lm.embed([record.text for record in pool])) if choice == "embeddings" else None
    index = BM25Index(record.text for record in pool) if vectors is None else None
    wanted = min(number + MORE, len(pool))

    def found(texts: Sequence[str]) -> list[list[Record]]:
        if vectors is not None:
            places = [vectors.nearest(vector, wanted) for vector in lm.embed(list(texts))]
        else:
            assert index is not None
            places = [index.nearest(text, wanted) for text in texts]
        return [_beside(pool, near, text, number) for near, text in zip(places, texts, strict=True)]

    return found


def _beside(pool: Sequence[Record], near: Sequence[int], text: str, number: int) -> list[Record]:
    key = _key(text)
    order = dict.fromkeys([*near, *range(min(len(pool), number + MORE))])
    chosen = [pool[i] for i in order if _key(pool[i].text) != key][:number]
    return chosen[::-1]
