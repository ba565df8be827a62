"""What a task is: a use case (a file of `seedbed.evaluation.tasks`) with its data and prompt, in TOML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from seedbed.base.errors import UsageError, nearest
from seedbed.base.plugins import PluginPackage
from seedbed.base.settings import load_settings, to_tree
from seedbed.evaluation.metrics.table import Form
from seedbed.evaluation.template import Template

Fields = Mapping[str, Any]  # of a record
Words = Mapping[str, str]  # the word of each label in a prompt
# How a prompt is answered: by the label of the highest likelihood, or by the text that is generated.
Answering = Literal["likelihood", "generation"]


def _same(fields: Fields) -> Fields:
    return fields


def _written(reference: Any, fields: Fields, words: Words) -> str:
    return words.get(str(reference), str(reference))


def _expected(reference: Any, fields: Fields) -> Any:
    return reference


def _text(answer: str, fields: Fields, words: Words) -> Any:
    return answer.strip()


def _no_labels(reference: Any) -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A use case: the fields of its records, its prompts, how an answer is read, and its metrics.

    `form` says what its outputs and references are. `inputs` and `targets` are the usual names of the text
    and of the answer in a record. `prompt` is one example for a model that continues texts, up to where the
    answer begins; `instruction` is the message to an instruction model. Both name fields of a record in
    braces, `{input}` among them, and `{labels}`. The first metric is the main one. A network with the head
    `head` answers without a prompt.
    """

    meaning: str
    form: Form
    metrics: tuple[str, ...]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    prompt: str
    instruction: str
    max_new_tokens: int
    answering: Answering = "generation"
    space: str = " "  # between a prompt and its answer, where the prompt has no space and no line end there
    stop: tuple[str, ...] = ("\n",)  # of a continued text; a chat ends by itself
    head: Literal["", "classification", "tagging"] = ""
    needs_target: bool = True  # a record is of no use without an answer
    derived: Callable[[Fields], Fields] = _same  # fields for the prompt that follow from a record's
    expected: Callable[[Any, Fields], Any] = _expected  # a reference with what the other fields add to it
    written: Callable[[Any, Fields, Words], str] = _written  # a reference as the answer of an example
    read: Callable[[str, Fields, Words], Any] = _text  # the output that the text of an answer means
    labels: Callable[[Any], Sequence[str]] = _no_labels  # that a reference has


TASKS: PluginPackage[Task] = PluginPackage("seedbed.evaluation.tasks", "TASK")


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """The `[task]` table of a task file or a solution; what is not set is the use case's own.

    Errors: UsageError for an unknown use case, a metric that does not fit it, or a wrong prompt.
    """

    use_case: str  # what the records ask for [a file of seedbed.evaluation.tasks]
    name: str = ""  # of the task; empty: that of its use case
    input: str | None = None  # field of a record that has its text; not set: recognised
    target: str | None = None  # field of its answer; not set: recognised
    prompt: str | None = None  # one example, up to the answer; not set: the use case's own
    instruction: str | None = None  # message to an instruction model; not set: the use case's own
    description: str = ""  # text before the examples; the system message of a chat
    separator: str = "\n\n"  # between the examples of a prompt
    # Labels in order, or words for them: {0 = "negative", 1 = "positive"}; none: data's. [a list or a table]
    labels: tuple[str, ...] | dict[str, str] = ()
    metric: str | None = None  # the main one; not set: the first of the use case
    max_new_tokens: int | None = None  # of an answer; not set: the use case's own [1 or more]

    def __post_init__(self) -> None:
        task = TASKS.get(self.use_case)
        if self.metric is not None and self.metric not in task.metrics:
            raise UsageError(
                f"the metric {self.metric!r} does not fit the use case {self.use_case}; "
                f"{nearest(self.metric, task.metrics)}"
            )
        for template in (self.prompt, self.instruction):
            if template is not None:
                Template(template).require("input", *([self.input] if self.input else []))
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens={self.max_new_tokens} is not allowed; give 1 or more")
        words = [*self.words.values()]
        if wrong := [word for word in words if not word.strip() or words.count(word) > 1]:
            raise UsageError(f"the word {wrong[0]!r} is that of two labels, or empty; give each its own")
        if len(self.words) < len(self.labels):
            raise UsageError(f"the labels {', '.join(self.labels)} have one twice; name each once")

    @classmethod
    def of(cls, task: str | Path | TaskSettings, **changes: Any) -> TaskSettings:
        """A task by the name of its use case, or by its TOML file; `changes` that are not None win."""
        if not isinstance(task, TaskSettings):
            path = Path(task)
            is_file = str(task) not in TASKS.names() and (path.suffix == ".toml" or path.is_file())
            task = load_settings(TaskFile, path).task if is_file else cls(use_case=str(task))
        return replace(task, **{name: value for name, value in changes.items() if value is not None})

    def overridden(self, overrides: Sequence[str]) -> TaskSettings:
        """The settings with flags such as `task.metric=rouge1`, checked as those of a file."""
        return load_settings(TaskFile, {"task": to_tree(self)}, overrides=overrides).task

    @cached_property
    def task(self) -> Task:
        """The use case."""
        return TASKS.get(self.use_case)

    @property
    def title(self) -> str:
        """Its name, else that of its use case."""
        return self.name or self.use_case

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, the main one first."""
        first = self.metric or self.task.metrics[0]
        return (first, *(name for name in self.task.metrics if name != first))

    @property
    def words(self) -> dict[str, str]:
        """The word of each label in a prompt; empty where the data has the labels."""
        if isinstance(self.labels, dict):
            return dict(self.labels)
        return {label: label for label in self.labels}


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """A file with a `[task]` table."""

    task: TaskSettings = field()
