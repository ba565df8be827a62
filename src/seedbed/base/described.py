"""Objects that describe themselves: one line in a terminal, a table in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape


class Described(ABC):
    """The base of public objects with a readable `repr`; subclasses give the facts."""

    @abstractmethod
    def _facts(self) -> dict[str, str]:
        """What matters about the object, by its name."""

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<{type(self).__name__}: {facts}>".replace("\u00a0", " ")

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"
