"""Answer a question in a few words, from the passage of a record's field `context` where there is one."""

from seedbed.evaluation.task import Fields, Task


def _passage(fields: Fields) -> Fields:
    context = fields.get("context") or fields.get("passage")
    return {**fields, "passage": f"{context}\n" if context else ""}


TASK = Task(
    meaning="Answer a question in a few words.",
    form="texts",
    metrics=("f1", "exact_match"),
    inputs=("question", "input", "prompt", "text"),
    targets=("answers", "answer", "target", "completion", "output"),
    prompt="{passage}Question: {input}\nAnswer:",
    instruction="{passage}Answer the question in as few words as possible.\nQuestion: {input}",
    max_new_tokens=32,
    derived=_passage,
)
