"""Tasks for networks of every architecture, on Python code: hidden tokens, and labels by a linear probe."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seedbed.data.corpus import Corpus
from seedbed.data.labelled_code import Labelled, labels
from seedbed.data.settings import DataSettings
from seedbed.evaluation.cloze import cloze_answers, cloze_examples
from seedbed.evaluation.metrics.bootstrap import bootstrapped
from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.records import Record
from seedbed.generation.language_model import LanguageModel
from seedbed.generation.scoring import row_states

LINES, WORDS_OF_A_PASSAGE, NUM_WORDS, NUM_SENTENCES, MOST_TOKENS = 10, 6, 6000, 2000, 120
WEIGHT_DECAY, ITERATIONS = 1e-3, 100
Shares = dict[str, dict[str, Any]]  # that are right, with their intervals, by task
T = TypeVar("T")


class Tasks(NamedTuple):
    """The same texts for every network: held-out passages to hide tokens in, and records to label.

    `labelled` has for `words` and `sentences` the records to fit a probe on, and held-out ones to test it.
    The field `span` of a word's record is where the word begins and ends in its passage.
    """

    passages: list[str]
    labelled: dict[str, list[list[Record]]]


def gather(data: DataSettings) -> Tasks:
    """The texts, sampled from the two sides of the split of Python code."""
    rng = np.random.default_rng(0)
    held_out: list[str] = []
    words: list[list[Record]] = [[], []]
    sentences: list[list[Record]] = [[], []]
    for passages in _modules(data):
        held_out += [passage for passage, side in passages if side]
        starts = [0, *accumulate(len(passage) for passage, _ in passages)]
        identifiers, docstrings = labels("".join(passage for passage, _ in passages))
        by_passage: dict[int, list[Labelled]] = {}
        for one in identifiers:
            by_passage.setdefault(bisect_right(starts, one[0]) - 1, []).append(one)
        for at, inside in by_passage.items():
            passage, side = passages[at]
            for start, name, role in _some(rng, inside, WORDS_OF_A_PASSAGE):
                span = (start - starts[at], start - starts[at] + len(name))
                words[side].append(Record(passage, role, "", {"span": span}))
        for start, text, owner in docstrings:
            _, side = passages[bisect_right(starts, start) - 1]
            sentences[side].append(Record(text, owner, "", {}))
    labelled = {"words": [_some(rng, side, NUM_WORDS) for side in words]}
    labelled["sentences"] = [_some(rng, side, NUM_SENTENCES) for side in sentences]
    return Tasks(_some(rng, held_out, len(held_out)), labelled)


def _modules(data: DataSettings) -> Iterator[list[tuple[str, bool]]]:
    """Each module in runs of LINES lines, with whether each is held out.

    Long modules come in parts, which are seldom Python by themselves: only a whole module has labels.
    """
    passages: list[tuple[str, bool]] = []
    for document, is_held_out in Corpus(data).documents():
        lines = document.text.splitlines(keepends=True)
        runs = ("".join(lines[first : first + LINES]) for first in range(0, len(lines), LINES))
        passages += [(run, is_held_out) for run in runs]
        if document.ends:
            yield passages
            passages = []


def measure(lm: LanguageModel, tasks: Tasks) -> Shares:
    """The shares of hidden tokens (`cloze`), `words` and `sentences` that are right."""
    cloze = _share(*cloze_answers(lm.module, cloze_examples(lm, tasks.passages)))
    return {"cloze": cloze} | {name: _probed(lm, *sides) for name, sides in tasks.labelled.items()}


def baselines(lm: LanguageModel, tasks: Tasks) -> list[dict[str, Any]]:
    """The shares without context: the most frequent label, and a probe on the tokens' embeddings alone."""
    frequent, embedded = {}, {}
    for name, (known, tested) in tasks.labelled.items():
        ((commonest, _),) = Counter(record.reference for record in known).most_common(1)
        frequent[name] = _share([record.reference for record in tested], [commonest] * len(tested))
        embedded[name] = _probed(lm, known, tested, embeddings=True)
    titled = {"Most frequent label": frequent, "Embeddings alone": embedded}
    return [{"title": title, "scores": scores} for title, scores in titled.items()]


def probe_labels(features: Tensor, known: Sequence[str], tested: Tensor) -> list[str]:
    """The labels that a softmax regression predicts from the features `tested` (m, d_model).

    It is fitted on `features` (n, d_model) with known labels, each feature at mean 0 and variance 1, by
    L-BFGS with a little weight decay (Alain and Bengio 1610.01644).
    """
    names = sorted(set(known))
    classes = torch.tensor([names.index(label) for label in known])
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    scaled = (features - mean) / std
    weight = torch.zeros(len(names), features.shape[1], requires_grad=True)
    bias = torch.zeros(len(names), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = WEIGHT_DECAY * weight.square().sum()
        total = F.cross_entropy(F.linear(scaled, weight, bias), classes) + penalty
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        best = F.linear((tested - mean) / std, weight, bias).argmax(-1)
    return [names[i] for i in best.tolist()]


def _share(references: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    return bootstrapped(METRICS["accuracy"].score(references, outputs), len(outputs)).to_dict()


def _probed(
    lm: LanguageModel, known: list[Record], tested: list[Record], *, embeddings: bool = False
) -> dict[str, Any]:
    """The share of the tested records that a probe labels right, fitted on the known ones."""
    features, references = _features(lm, tested, embeddings=embeddings)
    return _share(references, probe_labels(*_features(lm, known, embeddings=embeddings), features))


def _features(lm: LanguageModel, records: list[Record], *, embeddings: bool) -> tuple[Tensor, list[str]]:
    """Features (n, d_model) and labels: the state of a word's last token, or the mean of a text's.

    A decoder has read a whole word only at its last token. A word beyond MOST_TOKENS is left out.
    """
    assert lm.tokenizer is not None
    encoded = {record.text: lm.tokenizer.encode_spans(record.text) for record in records}
    texts, rows = list(encoded), [ids[:MOST_TOKENS] for ids, _ in encoded.values()]
    table = lm.module.embed.dense().detach().float()
    numbered = enumerate(table[row] for row in rows) if embeddings else row_states(lm.module, rows)
    states = {texts[row]: state for row, state in numbered}
    found, known = [], []
    for record in records:
        start, end = record.fields.get("span", (0, len(record.text)))
        spans = encoded[record.text][1][:MOST_TOKENS]
        inside = [i for i, (a, b) in enumerate(spans) if a < end and b > start]
        if inside:
            state = states[record.text][inside]
            found.append(state[-1] if "span" in record.fields else state.mean(0))
            known.append(record.reference)
    return torch.stack(found), known


def _some(rng: np.random.Generator, everything: list[T], number: int) -> list[T]:
    return [everything[i] for i in rng.permutation(len(everything))[:number]]
