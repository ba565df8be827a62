"""The records of a task as training data: documents with the prompts and answers of its evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from seedbed.base.errors import ConfigError, DataError
from seedbed.base.settings import to_tree
from seedbed.data.corpora import Document
from seedbed.data.corpus import Corpus
from seedbed.data.fields import empty_answer
from seedbed.data.forms import LearnsFrom
from seedbed.data.recognition import recognised
from seedbed.data.settings import DataSettings
from seedbed.evaluation.records import HALF, Record, label_values, read_records
from seedbed.evaluation.rendering import Rendering
from seedbed.evaluation.task import TaskSettings
from seedbed.models.family import Config
from seedbed.runs.settings import RunSettings

VERSION = 1  # of how records are rendered: raise it when a use case or `Rendering` writes them otherwise
UNSEEN = ("name", "metric", "max_new_tokens")  # settings of a task that no document depends on
BY_HEAD: dict[LearnsFrom, str] = {"labels": "label", "tags": "tags"}  # the form of a task that a head learns


@dataclass(frozen=True)
class TaskDocument(Document):
    """A rendered record, and the record itself, so that a model's answer to it can be scored."""

    record: Record = field(kw_only=True)


class TaskReader:
    """Reads the records of a task as documents of what a network learns from; it is the `read` of a corpus.

    `task` is one of `complete_task`. `joins`: prompt and answer are one text, as a decoder's are without a
    chat template, so the space between them is of the answer. Errors: ConfigError for a task that is not
    learned so; DataError in one line for a record without an answer, or without a field that the prompt
    names.
    """

    def __init__(
        self, task: TaskSettings, data: DataSettings, *, learns_from: LearnsFrom, joins: bool = False
    ) -> None:
        form = task.task.form
        if learns_from == "text" or BY_HEAD.get(learns_from, form) != form:
            allowed = ["conversations", "pairs", *(name for name, own in BY_HEAD.items() if own == form)]
            raise ConfigError(
                f"the records of the task {task.title} are not learned as {learns_from}, but as "
                f"{', '.join(allowed)}; choose an objective of these, or leave the task out"
            )
        self.task, self.data, self.learns_from, self.joins = task, data, learns_from, joins
        self._rendering = Rendering(task, chat=learns_from == "conversations")

    def __call__(self, source: str) -> Iterator[TaskDocument]:
        """The documents of a source in a fixed order."""
        for record in read_records(source, self.task, data=self.data):
            text, answer = self._texts(record)
            if half := HALF.search(f"{text}{answer}"):
                raise DataError(
                    f"{record.origin}: the lone surrogate \\u{ord(half[0]):04x} is not a character; remove it"
                )
            yield TaskDocument(text, record.origin, answer, file=record.file, record=record)

    def _texts(self, record: Record) -> tuple[str, str | None]:
        """The text and the answer of a record's document."""
        labels = self.task.words
        unknown = [each for each in self.task.task.labels(record.reference) if labels and each not in labels]
        if unknown:
            raise DataError(
                f"{record.origin}: the task has no label {unknown[0]!r}, only {', '.join([*labels][:20])}: "
                "correct the record, leave it out, or name all labels"
            )
        if self.learns_from == "labels":
            return record.text, str(record.reference)
        if self.learns_from == "tags":
            return " ".join(record.words), " ".join(map(str, record.reference))
        answer = self._rendering.answer(record)
        if not answer.strip():
            if self.task.task.form == "code":
                raise DataError(
                    f"{record.origin}: the record has tests, but no solution to learn; give it as a field "
                    "`solution`, or leave the record out"
                )
            raise empty_answer(record.origin)
        if self.learns_from == "conversations":
            return json.dumps(self._rendering.conversation(record), ensure_ascii=False), None
        prompt, spaced = self._rendering.pair(record)
        return prompt, spaced if self.joins else answer

    @property
    def rendering(self) -> str:
        """What the documents depend on beside the records, for the fingerprint of their shards."""
        tree = {key: value for key, value in to_tree(self.task).items() if key not in UNSEEN}
        use_case = self.task.task
        own = [use_case.prompt, use_case.instruction, use_case.space]
        # Labels as pairs: their order is that of the prompt.
        tree["labels"] = list(self.task.words.items())
        return json.dumps([VERSION, self.joins, own, tree], sort_keys=True)


def complete_task(task: TaskSettings, data: DataSettings) -> TaskSettings:
    """The task with the fields that `data` names, and with the labels of its training records, sorted.

    Labels that it has stay. Errors: ConfigError for settings of the data that contradict it or that a task
    has no use of; DataError for records of one label.
    """
    for name in ("input", "target"):
        own, named = getattr(task, name), getattr(data, name)
        if None not in (own, named) and own != named:
            raise ConfigError(
                f"task.{name}={own} and data.{name}={named} name two fields for one thing; keep one of them"
            )
    if unused := [name for name in ("text_field", "document_separator") if getattr(data, name) is not None]:
        raise ConfigError(
            f"data.{unused[0]} has no effect beside a task, whose records have fields; leave it out"
        )
    task = replace(task, input=task.input or data.input, target=task.target or data.target)
    if task.words or task.task.form not in ("label", "tags"):
        return task
    found = label_values(list(read_records(data.train, task, data=data)), task)
    if task.task.form == "label" and len(found) < 2:
        raise DataError(f"{data.train} has one label, {found[0]!r}; give records of at least two")
    return replace(task, labels=tuple(found))


def with_fields(settings: RunSettings, learns_from: LearnsFrom) -> RunSettings:
    """The settings with the fields of the records, which are recognised, or with a complete task."""
    if settings.task is not None:
        return replace(settings, task=complete_task(settings.task, settings.data))
    return replace(settings, data=recognised(settings.data, learns_from)[0])


def task_learns_from(task: TaskSettings, config: Config, *, chats: bool) -> LearnsFrom:
    """What a network learns of a task's records; `chats`: its tokenizer has a chat template.

    Labels or tags for an encoder and for a network whose head has them, conversations for a decoder that
    chats, else pairs. Errors: ConfigError for an encoder and a task whose answers are texts.
    """
    use_case = task.task
    if use_case.head and (config.shape == "encoder" or config.head.kind == use_case.head):
        return "labels" if use_case.head == "classification" else "tags"
    if config.shape == "encoder":
        raise ConfigError(
            f"the answers of the task {task.title} are texts, which an encoder does not write; take a "
            "decoder or an encoder-decoder"
        )
    return "conversations" if chats and config.shape == "decoder" else "pairs"


def run_corpus(settings: RunSettings, *, learns_from: LearnsFrom, shape: str) -> tuple[Corpus, str]:
    """The corpus of a run for a network of this shape, and how a task renders it; empty without a task."""
    if settings.task is None:
        return Corpus(settings.data, learns_from=learns_from), ""
    joins = learns_from == "pairs" and shape == "decoder"
    reader = TaskReader(settings.task, settings.data, learns_from=learns_from, joins=joins)
    return Corpus(settings.data, learns_from=learns_from, read=reader), reader.rendering


def held_out_records(corpus: Corpus) -> list[Record]:
    """The held-out records of a corpus that a TaskReader reads, in the order of its validation shard."""
    held = (document for document, validates in corpus.documents() if validates)
    return [document.record for document in held if isinstance(document, TaskDocument)]
