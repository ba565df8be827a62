"""Say in few words what a text says."""

from seedbed.evaluation.task import Task

TASK = Task(meaning="Say in few words what a text says.", metrics=("rougeL", "rouge1", "rouge2"))
