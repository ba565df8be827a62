"""What docs/ARCHITECTURE.md points to is there: packages, files, functions, about the line that it names."""

import ast
import re
from pathlib import Path

import pytest
from tests.test_structure import PACKAGES

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src/seedbed"
TEXT = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w/]+\.py):(\d+)` `([\w.]+)`", TEXT)))
ALLOWED_LINES = 25  # so that a small change needs no new numbers


def line_of(path: str, name: str) -> int | None:
    """The line of a function or of a method of a class; None where the file has none of this name."""
    body, line = ast.parse((SOURCES / path).read_text(encoding="utf-8")).body, None
    for part in name.split("."):
        found = [n for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == part]
        if not found:
            return None
        line, body = found[0].lineno, found[0].body
    return line


def test_there_are_places() -> None:
    assert len(PLACES) > 40 and line_of("nn/matmul.py", "absent") is None


@pytest.mark.parametrize(("path", "line", "name"), PLACES, ids=[name for _, _, name in PLACES])
def test_a_place_is_where_it_says(path: str, line: str, name: str) -> None:
    actual = line_of(path, name)
    assert actual is not None, f"{path} has no {name}"
    assert abs(actual - int(line)) <= ALLOWED_LINES, (
        f"write {path}:{actual} for {name} in docs/ARCHITECTURE.md"
    )


def test_every_package_is_described_in_order() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert described == [name for name in PACKAGES if (SOURCES / name).is_dir()]
