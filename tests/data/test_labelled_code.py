"""Roles of identifiers and owners of docstrings, as Python's own syntax has them."""

import ast

from seedbed.data.builtin import builtin_texts
from seedbed.data.labelled_code import labels

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
    found = [(SOURCE[start : start + len(name)], role) for start, name, role in labels(SOURCE)[0]]
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
    _, found = labels(SOURCE)
    assert [(text, owner) for _, text, owner in found] == [
        ("What it is.", "module"),
        ("A café.", "class"),
        ("Pour it.", "method"),
        ("Run.", "function"),
    ]
    assert all(text in SOURCE[start : start + 20] for start, text, _ in found)


def test_the_library_s_own_code_is_labelled_where_it_stands() -> None:
    roles = {"assigned", "attribute", "class", "function", "imported", "keyword", "parameter", "read"}
    for number, (_, text) in enumerate(builtin_texts("builtin:code")):
        if number % 40:
            continue
        identifiers, docstrings = labels(text)
        assert all(text.startswith(name, start) for start, name, _ in identifiers)
        assert {role for *_, role in identifiers} <= roles
        assert {owner for *_, owner in docstrings} <= {"class", "function", "method", "module"}
        names = sum(isinstance(node, ast.Name) for node in ast.walk(ast.parse(text)))
        assert sum(role in ("read", "assigned") for *_, role in identifiers) == names
