"""Answer a question in a few words."""

from seedbed.evaluation.task import Task

TASK = Task(meaning="Answer a question in a few words.", metrics=("f1", "exact_match"))
