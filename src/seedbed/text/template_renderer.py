"""Renders chat templates as transformers does, with Jinja2; `template_process` runs it with limits.

It is imported by name in a process of its own, so it imports nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_CHARACTERS = 16 << 20
MAX_TEMPLATES = 8  # that are kept compiled
# What filters import when they are used.
for name in ("encodings.ascii", "encodings.latin_1", "html.entities", "jinja2.constants", "textwrap"):
    import_module(name)


class Refusal(Exception):
    """Raised by a template that refuses its messages."""


def refuse(message: Any) -> NoReturn:
    """Do what a template's `raise_exception` does."""
    raise Refusal(str(message))


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """Write a value as transformers' filter `tojson` does, without HTML escapes."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def make_dict(*pairs: Any, **more: Any) -> dict[Any, Any]:
    """Make a dictionary."""
    return dict(*pairs, **more)


def format_now(pattern: str) -> str:
    """Write the date and time."""
    return datetime.now().strftime(pattern[:100])


class Generation(jinja2.ext.Extension):
    """The tag `generation`: a block of its own scope; `around` is put around what it writes."""

    tags = {"generation"}  # noqa: RUF012 (the base class has an instance variable)
    around: tuple[str, str] = ("", "")

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call with a body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("said"), [], [], body).set_lineno(line)

    def said(self, caller: Callable[[], str]) -> str:
        """What the block writes."""
        first, last = self.around
        return first + caller() + last


class OwnNamespace(Namespace):
    """One whose attributes are a template's own: none begins with an underscore."""

    def __init__(*pairs: Any, **more: Any) -> None:
        own, *others = pairs
        names = dict(*others, **more)
        for name in names:
            _require_own(name)
        Namespace.__init__(own, names)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        _require_own(name)
        super().__setitem__(name, value)


def _require_own(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}")


class Environment(ImmutableSandboxedEnvironment):
    """One that reports errors as they are: to rewrite their traceback takes what the process forbids."""

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Raise the error again."""
        raise


class Renderer:
    """Templates by their source, compiled once."""

    def __init__(self) -> None:
        self._environment = Environment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, jinja2.ext.loopcontrols],
            cache_size=0,
        )
        self._environment.filters["tojson"] = to_json
        # Functions where Jinja2 has classes, whose methods can be put to other uses; as in transformers.
        self._environment.globals |= {
            "dict": make_dict,
            "namespace": OwnNamespace,
            "raise_exception": refuse,
            "strftime_now": format_now,
        }
        generation = self._environment.extensions[Generation.identifier]
        assert isinstance(generation, Generation)
        self._generation = generation
        self._compiled: dict[str, jinja2.Template] = {}

    def render(
        self, source: str, variables: dict[str, Any], around: tuple[str, str] = ("", "")
    ) -> dict[str, Any]:
        """What a template writes, `{"text": ..}`; else `refused`, `endless` or `error` with the reason."""
        self._generation.around = around
        template = None
        try:
            template = self._compiled.get(source) or self._environment.from_string(source)
            self._compiled[source] = template
            if len(self._compiled) > MAX_TEMPLATES:
                del self._compiled[next(iter(self._compiled))]
            text = template.render(**variables)
        except Refusal as error:
            return {"refused": str(error)}
        except MemoryError:
            raise
        except Exception as error:
            return _problem(error, template)
        if len(text) > MAX_CHARACTERS:
            return {"error": f"it writes {len(text)} characters"}
        return {"text": text}


def _problem(error: Exception, template: jinja2.Template | None) -> dict[str, Any]:
    lines, at = [], error.__traceback__
    while template is not None and at is not None:
        if at.tb_frame.f_code.co_filename == "<template>":
            lines.append(template.get_corresponding_lineno(at.tb_lineno))
        at = at.tb_next
    line = lines[-1] if lines else getattr(error, "lineno", None)
    place = "" if line is None else f" (line {line})"
    if isinstance(error, RecursionError):
        return {"endless": f"its recursion is too deep{place}"}
    is_range = isinstance(error, OverflowError) and "Range too big" in str(error)
    reason = str(error) or type(error).__name__
    return {"endless" if is_range else "error": f"{reason}{place}"}
