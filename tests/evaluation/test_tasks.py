"""The contract of tasks: the reference scores best and an empty output worst."""

import numpy as np
import pytest

from seedbed.evaluation.metrics.table import METRICS
from seedbed.evaluation.task import TASKS

RIGHT = {
    "texts": ["the seed grows in the garden", "who sows them every spring", "nobody knows the answer"],
    "label": ["good", "bad", "good"],
    "tags": [["O", "B-PER"], ["B-LOC", "I-LOC"], ["O", "O"]],
    "text": ["one text has several words", "another has more than that one", "the third has its own"],
}
EMPTY = {"texts": ["", "", ""], "label": ["", "", ""], "tags": [["O", "O"]] * 3, "text": ["", "", ""]}


@pytest.mark.parametrize("name", TASKS.names())
def test_the_reference_scores_best_and_nothing_worst(name: str) -> None:
    task = TASKS.get(name)
    assert task.meaning.endswith(".") and {METRICS[metric].form for metric in task.metrics} == {task.form}
    references = [[one] for one in RIGHT["texts"]] if task.form == "texts" else RIGHT[task.form]
    for metric in task.metrics:
        best, worst = (
            float(METRICS[metric].score(references, outputs[task.form])(np.ones((1, 3)))[0])
            for outputs in (RIGHT, EMPTY)
        )
        if metric == "repetition":
            assert best == worst == 0
        else:
            assert best > worst == 0 and (metric == "num_words" or best == pytest.approx(1))
