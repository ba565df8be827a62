"""The `[data]` table: what is read, what is held out, and which fields of a record count."""

from __future__ import annotations

from dataclasses import dataclass

from seedbed.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The `[data]` table: training and validation data, any source that `read_documents` takes."""

    train: str
    validation: str | None = None  # None: split from train by the hash of each document
    validation_fraction: float = 0.05  # 0: nothing is held out, for a tokenizer alone
    text_field: str = "text"  # of a JSON or Parquet record
    input: str | None = None  # the fields of a labelled record; none: "input" and "target"
    target: str | None = None
    document_separator: str | None = None  # splits every text into documents; "\n\n": at blank lines
    deduplicate: bool = True

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
