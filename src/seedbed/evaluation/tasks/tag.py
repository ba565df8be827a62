"""Give every word of a text a label, such as its part of speech."""

from collections.abc import Sequence
from typing import Any

from seedbed.data.fields import WORD
from seedbed.evaluation.task import Fields, Task, Words

OUTSIDE = "O"  # the tag of a word that an answer leaves out, where it is a label


def _written(reference: Any, fields: Fields, words: Words) -> str:
    """The words with their labels: `the/DET dog/NOUN`."""
    tagged = zip(WORD.findall(str(fields["input"])), reference, strict=True)
    return " ".join(f"{word}/{words.get(tag, tag)}" for word, tag in tagged)


def _tags(answer: str, fields: Fields, words: Words) -> list[str]:
    """The labels of the words that an answer has in their order; a word that it leaves out has none."""
    labels = {word: label for label, word in words.items()}
    pairs = [part.rpartition("/")[::2] for part in WORD.findall(answer)]
    tags, at = [], 0
    for word in WORD.findall(str(fields["input"])):
        place = next((i for i in range(at, min(at + 3, len(pairs))) if pairs[i][0] == word), None)
        tag = labels.get(pairs[place][1], "") if place is not None else ""
        tags.append(tag or (OUTSIDE if OUTSIDE in words else ""))
        at = at if place is None else place + 1
    return tags


def _labels(reference: Any) -> Sequence[str]:
    return [str(tag) for tag in reference]


TASK = Task(
    meaning="Give every word of a text a label.",
    form="tags",
    metrics=("accuracy", "macro_f1"),
    inputs=("tokens", "words", "text", "input"),
    targets=("tags", "pos_tags", "ner_tags", "target"),
    prompt="Text: {input}\nLabels:",
    instruction="Give every word of the following text one of the labels {labels}. Write each word with its "
    "label, as word/LABEL.\n\n{input}",
    max_new_tokens=256,
    head="tagging",
    written=_written,
    read=_tags,
    labels=_labels,
)
