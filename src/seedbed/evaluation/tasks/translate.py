"""Say a text in another language: that of a record's field `language`, else English."""

from seedbed.evaluation.task import Fields, Task


def _language(fields: Fields) -> Fields:
    return {"language": "English", **fields}


TASK = Task(
    meaning="Say a text in another language.",
    form="texts",
    metrics=("bleu", "chrf"),
    inputs=("source", "text", "input", "prompt", "sentence"),
    targets=("translation", "target", "reference", "output", "completion"),
    prompt="Text: {input}\n{language}:",
    instruction="Translate the following text into {language}. Write the translation alone.\n\n{input}",
    max_new_tokens=128,
    derived=_language,
)
