"""The two corpora that every Python installation has: its documentation as prose, its library as code."""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data import topics

BUILTIN = ("builtin:code", "builtin:prose")
# Tests, installed packages, tables of character codes, and files that are generated or not code.
SKIPPED = re.compile(
    r"__pycache__|(dist|site)-packages|encodings|ensurepip|idlelib|"
    r"pydoc_data|tests?|config-.*|_sysconfigdata.*"
)
# An example session, from its first prompt to the next blank line.
SESSION = re.compile(r"^[ \t]*>>>.*(?:\n[ \t]*\S.*)*\n?", re.MULTILINE)
TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
BLANK_LINES = re.compile(r"\n{3,}")


def builtin_files(name: str) -> list[Path]:
    """The files that determine the content of a built-in corpus."""
    topics_files = [Path(topics.__file__)] if name == "builtin:prose" else []
    return [*library_modules().values(), *topics_files]


def builtin_texts(name: str) -> Iterator[tuple[str, str]]:
    """The name and text of each document, sorted by name.

    Code: one document per module. Prose: one per module with all its docstrings, then one per topic of the
    language reference; example sessions are left out.
    """
    if name == "builtin:code":
        yield from ((path, source_text(file)) for path, file in library_modules().items())
    else:
        yield from docstrings()
        yield from ((f"topics/{topic}", clean(text)) for topic, text in sorted(topics.topics.items()))


def library_modules() -> dict[str, Path]:
    """The modules of the standard library by their path in it, sorted, without SKIPPED."""
    library = Path(sysconfig.get_path("stdlib"))
    kept: list[Path] = []
    for folder, inside, names in os.walk(library):
        inside[:] = [name for name in inside if not SKIPPED.fullmatch(name)]
        modules = (name for name in names if name.endswith(".py") and not SKIPPED.fullmatch(name))
        kept.extend(Path(folder, name) for name in modules)
    return dict(sorted((file.relative_to(library).as_posix(), file) for file in kept))


def source_text(file: Path) -> str:
    """The text of a module, decoded as it declares, with the same line ends on every system."""
    with tokenize.open(file) as module:
        return module.read()


# Parsing takes two seconds, and a run reads its corpus twice, for the tokenizer and for the shards.
@cache
def docstrings() -> tuple[tuple[str, str], ...]:
    """The path and the joined docstrings of each module, in the order of the source."""
    return tuple((path, "\n\n".join(_prose(source_text(file)))) for path, file in library_modules().items())


def clean(text: str) -> str:
    """A text without example sessions, trailing blanks and the empty lines that these leave."""
    return BLANK_LINES.sub("\n\n", TRAILING.sub("", SESSION.sub("", text)).strip())


def _prose(source: str) -> Iterator[str]:
    texts = (clean(ast.get_docstring(node) or "") for node in _documented(ast.parse(source)))
    return filter(None, texts)


def _documented(
    node: ast.AST,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The nodes from this one down that may have a docstring, in the order of the source."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _documented(child)
