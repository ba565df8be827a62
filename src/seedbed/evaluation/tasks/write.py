"""Write a text from a prompt; a reference is not needed, and measures the model's perplexity."""

from seedbed.evaluation.task import Task

TASK = Task(
    meaning="Write a text from a prompt.",
    form="text",
    metrics=("distinct_1", "distinct_2", "repetition", "num_words"),
    inputs=("prompt", "input", "instruction", "text"),
    targets=("completion", "target", "output", "reference"),
    prompt="{input}",
    instruction="{input}",
    max_new_tokens=256,
    space="",  # a completion is as it is in the record
    stop=(),
    needs_target=False,
)
