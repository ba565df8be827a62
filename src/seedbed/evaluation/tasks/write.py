"""Write a text from a prompt; there is no reference."""

from seedbed.evaluation.task import Task

TASK = Task(
    meaning="Write a text from a prompt.", metrics=("distinct_1", "distinct_2", "repetition", "num_words")
)
