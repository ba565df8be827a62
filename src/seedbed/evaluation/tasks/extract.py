"""Find the names in a text, as tags of its words (BIO, IOB2 or BIOES)."""

import re
from collections.abc import Sequence
from typing import Any

from seedbed.data.fields import WORD
from seedbed.evaluation.task import Fields, Task, Words
from seedbed.text.entities import entities

NONE = "none"


def _written(reference: Any, fields: Fields, words: Words) -> str:
    """The names of a text with their types: `Tokyo: location; Ann Lee: person`."""
    text = WORD.findall(str(fields["input"]))
    named = [
        f"{' '.join(text[first : last + 1])}: {words.get(kind, kind)}"
        for kind, first, last in entities(reference)
    ]
    return "; ".join(named) or NONE


def _tags(answer: str, fields: Fields, words: Words) -> list[str]:
    """The tags of the words that an answer names; another type, or a name that the text has not, is none."""
    text = [word.lower() for word in WORD.findall(str(fields["input"]))]
    tags = ["O"] * len(text)
    kinds = {word.lower(): label for label, word in words.items()}
    for part in re.split(r"[;\n]", answer):
        name, _, kind = (side.strip().lower() for side in part.rpartition(":"))
        wanted = WORD.findall(name)
        size = len(wanted)
        starts = (i for i in range(len(text) - size + 1) if text[i : i + size] == wanted)
        start = next((i for i in starts if tags[i : i + size] == ["O"] * size), None)
        if kind in kinds and size and start is not None:
            tags[start : start + size] = [f"B-{kinds[kind]}", *[f"I-{kinds[kind]}"] * (size - 1)]
    return tags


def _kinds(reference: Any) -> Sequence[str]:
    return [entity.kind for entity in entities(reference)]


TASK = Task(
    meaning="Find the names in a text, as tags of its words.",
    form="tags",
    metrics=("entity_f1",),
    inputs=("tokens", "words", "text", "input"),
    targets=("tags", "ner_tags", "target"),
    prompt="Text: {input}\nNames:",
    instruction="List the names in the following text with their types ({labels}), each as `name: type`, "
    "with a semicolon between them. Write `none` if there is no name.\n\n{input}",
    max_new_tokens=64,
    head="tagging",
    written=_written,
    read=_tags,
    labels=_kinds,
)
