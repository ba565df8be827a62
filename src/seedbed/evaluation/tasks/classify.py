"""Give a text one of several labels."""

import re
from typing import Any

from seedbed.evaluation.task import Fields, Task, Words


def _label(answer: str, fields: Fields, words: Words) -> str:
    """The label whose word an answer begins with, or the only one that it has; none else."""
    text = answer.strip().lower()
    # Whole words, not `male` of `female`; where letters are others, as in Chinese, any part of the text.
    patterns = {
        label: re.compile(rf"(?<![a-z0-9_]){re.escape(word.lower())}(?![a-z0-9_])")
        for label, word in words.items()
    }
    found = [label for label, pattern in patterns.items() if pattern.match(text)]
    is_first = bool(found)
    found = found or [label for label, pattern in patterns.items() if pattern.search(text)]
    longest = max(found, key=lambda label: len(words[label]), default="")
    if is_first or all(words[label].lower() in words[longest].lower() for label in found):
        return longest
    return ""


def _labels(reference: Any) -> list[str]:
    return [reference]


TASK = Task(
    meaning="Give a text one of several labels.",
    form="label",
    metrics=("accuracy", "macro_f1"),
    inputs=("text", "sentence", "review", "question", "input", "prompt"),
    targets=("label", "labels", "class", "category", "target", "completion"),
    prompt="Text: {input}\nLabel:",
    instruction="Which label has the following text: {labels}? Answer with one of them alone.\n\n{input}",
    max_new_tokens=16,
    answering="likelihood",
    head="classification",
    read=_label,
    labels=_labels,
)
