"""Labels from Python's syntax: the role of every identifier, and the owner of every docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

ROLES = ("assigned", "attribute", "class", "function", "imported", "keyword", "parameter", "read")
OWNERS = ("class", "function", "method", "module")
_NAMED = re.compile(r"(?:async\s+)?(?:def|class)\s+")


class Identifier(NamedTuple):
    """The place of an identifier in its line, in characters, and its role."""

    line: int  # from 0
    start: int
    end: int
    role: str


def identifiers(source: str) -> list[Identifier]:
    """The identifiers of a module with their roles, in the order of the source.

    A name that is bound is `assigned`, any other `read`; the other roles have the names of Python's syntax.
    """
    lines = source.splitlines()

    def place(node: ast.AST, role: str, length: int, *, ends: bool = False) -> Identifier:
        row = (node.end_lineno if ends else node.lineno) - 1  # type: ignore[attr-defined]
        column = node.end_col_offset if ends else node.col_offset  # type: ignore[attr-defined]
        at = len(lines[row].encode()[:column].decode()) - (length if ends else 0)
        return Identifier(row, at, at + length, role)

    found: list[Identifier] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=context):
                role = "read" if isinstance(context, ast.Load) else "assigned"
                found.append(place(node, role, len(name)))
            case ast.Attribute(attr=name):
                found.append(place(node, "attribute", len(name), ends=True))
            case ast.arg(arg=name):
                found.append(place(node, "parameter", len(name)))
            case ast.keyword(arg=str(name)):
                found.append(place(node, "keyword", len(name)))
            case ast.alias(name=name) if name.isidentifier():
                found.append(place(node, "imported", len(name)))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                row, column = node.lineno - 1, node.col_offset
                if match := _NAMED.match(lines[row], column):
                    role = "class" if isinstance(node, ast.ClassDef) else "function"
                    found.append(Identifier(row, match.end(), match.end() + len(name), role))
    return sorted(one for one in found if lines[one.line][one.start : one.end].isidentifier())


def docstrings(source: str) -> Iterator[tuple[str, str]]:
    """The first paragraph of each docstring, and which of OWNERS has it."""

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, str]]:
        is_class = isinstance(node, ast.ClassDef)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = (ast.get_docstring(node) or "").split("\n\n")[0]
            if text.strip():
                kind = "module" if isinstance(node, ast.Module) else "class" if is_class else ""
                yield text, kind or ("method" if inside else "function")
        for child in ast.iter_child_nodes(node):
            yield from visit(child, is_class)

    return visit(ast.parse(source), False)
