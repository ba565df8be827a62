"""The `[data]` table: which files are read, which fields of a record count, what is held out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf
from typing import Literal

from seedbed.base.errors import ConfigError

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}  # that a shell leaves as two characters


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The `[data]` table: training and validation data, any source that `read_documents` takes."""

    train: str  # training data: a file or a folder, builtin:prose or builtin:code
    validation: str | None = None  # held-out data; not set: a part of train
    # Share of the bytes of train that is held out; 0: none, for a tokenizer alone. [0 or more and below 1]
    validation_fraction: float = 0.05
    # Patterns of the files of a folder that are read, such as "*.txt, notes/*"; none: all. [text or a list]
    include: str | tuple[str, ...] = ()
    # Patterns of files and folders that are left out. [text or a list]
    exclude: str | tuple[str, ...] = ()
    # Names of the columns of CSV or TSV without a header, such as "text,label". [text or a list]
    columns: str | tuple[str, ...] = ()
    # Form of the records; not set: recognised by their fields.
    form: Literal["messages", "tags", "alpaca", "pairs", "labels", "text"] | None = None
    text_field: str | None = None  # field of a record that has its text or messages; not set: recognised
    input: str | None = None  # field of a labelled record that has its text; not set: recognised
    target: str | None = None  # field of its answer, label or tags; not set: recognised
    document_separator: str | None = None  # text between documents; "\n\n": blank lines
    deduplicate: bool = True  # leave out documents that are equal
    # Each file or folder in train is a task, of weight records ** (1 / this); 1: as they come. [1 or more]
    mixture_temperature: float | None = None
    # Records of a task that count for its weight, at most; 3000 in Wei 2021. [1 or more]
    mixture_limit: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                f"data.validation_fraction={self.validation_fraction} is not allowed: choose 0 or more and "
                "below 1"
            )
        if (self.input is None) != (self.target is None):
            raise ConfigError(
                "data.input and data.target name the two fields of a labelled record; give both"
            )
        if self.document_separator == "":
            raise ConfigError(
                "data.document_separator is empty; leave it out, or give the text between documents"
            )
        temperature, limit = self.mixture_temperature, self.mixture_limit
        if temperature is not None and not 1 <= temperature < inf:
            raise ConfigError(
                f"data.mixture_temperature={temperature} is not allowed: choose 1, for shares by the numbers "
                "of records, or more, for shares that are more equal"
            )
        if limit is not None and limit < 1:
            raise ConfigError(f"data.mixture_limit={limit} is not allowed: choose 1 or more")
        for name in ("include", "exclude", "columns"):
            if isinstance(value := getattr(self, name), str):  # a flag needs no brackets
                parts = tuple(part.strip() for part in value.split(",") if part.strip())
                object.__setattr__(self, name, parts)

    @property
    def mixes(self) -> bool:
        """Whether the training data is a mixture of weighted tasks."""
        return self.mixture_temperature is not None or self.mixture_limit is not None

    @property
    def separator(self) -> re.Pattern[str] | None:
        r"""What is between documents: escapes are read, a line may end in \r\n, a blank line have blanks."""
        if self.document_separator is None:
            return None
        text = re.sub(r"\\([ntr\\])", lambda found: ESCAPES[found[1]], self.document_separator)
        lines = [re.escape(line) for line in text.replace("\r\n", "\n").split("\n")]
        pattern = lines[0]
        for before, line in zip(["x", *lines[1:]], lines[1:], strict=False):
            pattern += (r"\r?\n" if before else r"(?:[^\S\n]*\n)+") + line
        return re.compile(pattern)
