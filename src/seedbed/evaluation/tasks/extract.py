"""Find the names in a text, as tags of its words (BIO, IOB2 or BIOES)."""

from seedbed.evaluation.task import Task

TASK = Task(meaning="Find the names in a text, as tags of its words.", metrics=("entity_f1",))
