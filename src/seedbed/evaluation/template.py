"""A text with names in braces, each replaced by a field of a record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from seedbed.base.arguments import brief
from seedbed.base.errors import UsageError

NAME = re.compile(r"\{([A-Za-z_]\w*)\}")


class Template(NamedTuple):
    """A text such as `Review: {input}\\nSentiment:`; other braces are characters."""

    text: str

    def require(self, *own: str) -> None:
        """Refuse with a UsageError a text that names none of these fields, or that names the answer."""
        names = NAME.findall(self.text)
        if "target" in names:
            raise UsageError(
                f"the prompt {brief(self.text)} has {{target}}; leave it out: the answer follows the prompt"
            )
        if not {*own} & {*names}:
            raise UsageError(
                f"the prompt {brief(self.text)} is not allowed: name the record's text, {{{own[0]}}}"
            )

    def filled(self, fields: Mapping[str, Any]) -> str:
        """The text with the fields; KeyError with the name of one that is missing or null."""

        def value(match: re.Match[str]) -> str:
            if fields[match[1]] is None:
                raise KeyError(match[1])
            return str(fields[match[1]])

        return NAME.sub(value, self.text)

    @property
    def names(self) -> set[str]:
        """The fields that it names."""
        return {*NAME.findall(self.text)}

    @property
    def ending(self) -> str:
        """The characters behind the last name, which no record changes."""
        return NAME.split(self.text)[-1]
