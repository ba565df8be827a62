"""Say a text in another language."""

from seedbed.evaluation.task import Task

TASK = Task(meaning="Say a text in another language.", metrics=("bleu", "chrf"))
