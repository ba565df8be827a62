"""Give a text one of several labels."""

from seedbed.evaluation.task import Task

TASK = Task(meaning="Give a text one of several labels.", metrics=("accuracy", "macro_f1"))
