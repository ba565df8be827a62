"""Labels from Python's syntax: the role of every identifier, and the owner of every docstring."""

from __future__ import annotations

import ast
import re
from itertools import accumulate
from typing import Any

# The field of a node that has the identifier, and its role; a name that is bound is `assigned`.
_ROLES = {
    ast.Name: ("id", "read"),
    ast.Attribute: ("attr", "attribute"),
    ast.arg: ("arg", "parameter"),
    ast.keyword: ("arg", "keyword"),
    ast.alias: ("name", "imported"),
    ast.FunctionDef: ("name", "function"),
    ast.AsyncFunctionDef: ("name", "function"),
    ast.ClassDef: ("name", "class"),
}
_NAMED = re.compile(r"(?:async\s+)?(?:def|class)\s+")
# The character of a module at which a text begins, the text, its label.
Labelled = tuple[int, str, str]


def labels(source: str) -> tuple[list[Labelled], list[Labelled]]:
    """The identifiers of a module with their roles, and its docstrings with their owners, both in order.

    Of a docstring it is the first paragraph; owners are `module`, `class`, `method` and `function`.
    """
    lines = source.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, lines))]

    def character(line: int, byte: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:byte].decode())

    nodes: list[Any] = list(ast.walk(ast.parse(source)))
    methods = {child for node in nodes if isinstance(node, ast.ClassDef) for child in node.body}
    identifiers: list[Labelled] = []
    docstrings: list[Labelled] = []
    for node in nodes:
        field, role = _ROLES.get(type(node), ("", ""))
        name = getattr(node, field, None) or ""  # `**options` is a keyword without one
        if name.isidentifier():
            start = character(node.lineno, node.col_offset)
            if role == "attribute":
                start = character(node.end_lineno, node.end_col_offset) - len(name)
            elif named := _NAMED.match(source, start):
                start = named.end()
            if role == "read" and not isinstance(node.ctx, ast.Load):
                role = "assigned"
            if source.startswith(name, start):
                identifiers.append((start, name, role))
        if isinstance(node, ast.Module) or role in ("class", "function"):
            owner = "method" if role == "function" and node in methods else role or "module"
            text = (ast.get_docstring(node) or "").split("\n\n")[0]
            if text.strip():
                first = node.body[0]
                docstrings.append((character(first.lineno, first.col_offset), text, owner))
    return sorted(identifiers), sorted(docstrings)
