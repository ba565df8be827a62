"""Roles of identifiers and owners of docstrings, as Python's own syntax has them."""

import ast

from seedbed.data.builtin import builtin_texts
from seedbed.data.labelled_code import OWNERS, ROLES, docstrings, identifiers

SOURCE = '''"""What it is.

More."""
import os, sys as système
from json import loads

é = loads(os.name)
class Café(Base):
    """A café."""
    size = 1
    async def pour(self, cup, *, hot=True):
        """Pour it."""
        self.cup = cup(len=hot); del é
def main(): "Run."
'''


def test_each_identifier_has_its_role() -> None:
    lines = SOURCE.splitlines()
    found = [(lines[one.line][one.start : one.end], one.role) for one in identifiers(SOURCE)]
    assert found == [
        ("os", "imported"),
        ("sys", "imported"),
        ("loads", "imported"),
        ("é", "assigned"),
        ("loads", "read"),
        ("os", "read"),
        ("name", "attribute"),
        ("Café", "class"),
        ("Base", "read"),
        ("size", "assigned"),
        ("pour", "function"),
        ("self", "parameter"),
        ("cup", "parameter"),
        ("hot", "parameter"),
        ("self", "read"),
        ("cup", "attribute"),
        ("cup", "read"),
        ("len", "keyword"),
        ("hot", "read"),
        ("é", "assigned"),
        ("main", "function"),
    ]


def test_each_docstring_has_its_owner() -> None:
    found = list(docstrings(SOURCE))
    assert found == [
        ("What it is.", "module"),
        ("A café.", "class"),
        ("Pour it.", "method"),
        ("Run.", "function"),
    ]


def test_the_library_s_own_code_is_labelled_where_it_stands() -> None:
    for number, (_, text) in enumerate(builtin_texts("builtin:code")):
        if number % 40:
            continue
        lines = text.splitlines()
        found = identifiers(text)
        assert all(lines[one.line][one.start : one.end].isidentifier() for one in found)
        assert {one.role for one in found} <= set(ROLES) and {kind for _, kind in docstrings(text)} <= set(
            OWNERS
        )
        names = sum(isinstance(node, ast.Name) for node in ast.walk(ast.parse(text)))
        assert sum(one.role in ("read", "assigned") for one in found) == names
