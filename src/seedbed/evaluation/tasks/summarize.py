"""Say in few words what a text says."""

from seedbed.evaluation.task import Task

TASK = Task(
    meaning="Say in few words what a text says.",
    form="texts",
    metrics=("rougeL", "rouge1", "rouge2"),
    inputs=("dialogue", "document", "article", "text", "input", "prompt"),
    targets=("summary", "highlights", "target", "output", "completion"),
    prompt="Text: {input}\nSummary:",
    instruction="Summarize the following text in one or two sentences.\n\n{input}",
    max_new_tokens=96,
)
