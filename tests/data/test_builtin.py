"""The corpora that Python carries: enough text, clean, in a fixed order, from its library alone."""

import ast
import heapq
import inspect

import pytest

from seedbed.data.builtin import builtin_files, builtin_texts, clean, docstrings, library_modules
from seedbed.data.corpora import read_documents


@pytest.fixture(scope="module")
def prose() -> dict[str, str]:
    return {d.origin.removeprefix("builtin:prose/"): d.text for d in read_documents("builtin:prose")}


@pytest.fixture(scope="module")
def code() -> dict[str, str]:
    return {d.origin.removeprefix("builtin:code/"): d.text for d in read_documents("builtin:code")}


def test_prose_is_some_megabytes_of_english(prose: dict[str, str]) -> None:
    joined = "\n".join(prose.values())
    assert 1.5e6 < len(joined) < 6e6
    assert sum(c.isalpha() or c in " \n" for c in joined) / len(joined) > 0.88
    assert sum(not c.isascii() for c in joined) / len(joined) < 0.002
    assert not [line for line in joined.splitlines() if line.lstrip().startswith(">>>")]
    modules = [name for name in prose if not name.startswith("topics/")]
    assert list(prose) == sorted(modules) + sorted(set(prose) - set(modules))
    assert "except" in prose["topics/try"]


def test_prose_holds_a_module_s_docstrings_in_order(prose: dict[str, str]) -> None:
    text = prose["heapq.py"]
    documented = (heapq, heapq.heappush, heapq.merge, heapq.nlargest)
    places = [text.index(inspect.cleandoc(each.__doc__ or "").splitlines()[0]) for each in documented]
    assert places[0] == 0
    assert places == sorted(places)


def test_cleaning_drops_sessions_and_nothing_else() -> None:
    text = "Add one.  \n\n    >>> add(1)\n    2\n    ... \n\n\nMore >>> text:\n>>> x\n\n  - kept\n"
    assert clean(text) == "Add one.\n\nMore >>> text:\n\n  - kept"


def test_code_is_the_library_without_tests(code: dict[str, str]) -> None:
    assert 5e6 < sum(map(len, code.values())) < 20e6
    assert list(code) == sorted(code)
    assert "def heappush" in code["heapq.py"]
    parts = {part for name in code for part in name.split("/")}
    assert parts.isdisjoint({"test", "tests", "idlelib", "site-packages", "encodings", "__pycache__"})
    for name in ("heapq.py", "json/decoder.py"):
        ast.parse(code[name])


def test_both_corpora_come_from_files() -> None:
    files = builtin_files("builtin:prose")
    assert len(files) == len(library_modules()) + 1
    assert all(file.is_file() for file in files)
    assert builtin_files("builtin:code") == files[:-1]


def test_the_same_text_every_time() -> None:
    assert docstrings() is docstrings()
    assert list(builtin_texts("builtin:code")) == list(builtin_texts("builtin:code"))
