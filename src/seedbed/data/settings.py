"""The `[data]` table: what is read, what is held out, and which fields of a record count."""

from __future__ import annotations

from dataclasses import dataclass

from seedbed.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The `[data]` table: training and validation data, any source that `read_documents` takes."""

    train: str  # training data: a file or a folder, builtin:prose or builtin:code
    validation: str | None = None  # held-out data; not set: a part of train
    # Share of train that is held out; 0: none, for a tokenizer alone. [0 or more and below 1]
    validation_fraction: float = 0.05
    text_field: str = "text"  # field of a JSON or Parquet record that has the text
    input: str | None = None  # field of a labelled record that has its text; not set: input
    target: str | None = None  # field of its answer, label or tags; not set: target
    document_separator: str | None = None  # text between documents; "\n\n": blank lines
    deduplicate: bool = True  # leave out documents that are equal

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                f"data.validation_fraction={self.validation_fraction} is not allowed: choose one in [0, 1)"
            )
        if (self.input is None) != (self.target is None):
            raise ConfigError(
                "data.input and data.target name the two fields of a labelled record; give both"
            )
        if self.document_separator == "":
            raise ConfigError(
                "data.document_separator is empty; leave it out, or give the text between documents"
            )

    @property
    def fields(self) -> tuple[str, str]:
        """The fields of a labelled record."""
        return self.input or "input", self.target or "target"
