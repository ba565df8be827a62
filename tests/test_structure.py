"""The architecture: imports point left, files and functions stay small, `__init__` files are empty."""

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "seedbed"
PACKAGES = ["base", "text", "nn", "models", "quantization", "peft", "hub", "data", "objectives", "training"]
PACKAGES += ["generation", "retrieval", "evaluation", "report", "scope", "select", "runs", "align", "adapt"]
PACKAGES += ["integrate", "api", "cli"]
SOURCES = sorted(SRC.rglob("*.py"))
CHECKED = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_packages(tree: ast.AST, path: Path) -> Iterator[str]:
    """Yield the packages that a file imports, at its top or in a function, in every form of import."""
    here = ("seedbed", *path.relative_to(SRC).with_suffix("").parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            target = (*base, *(node.module or "").split("."))
            if target[0] == "seedbed":
                yield from (
                    [target[1]] if len(target) > 1 and target[1] else [alias.name for alias in node.names]
                )
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("seedbed."))


def upward_imports(source: str, path: Path) -> list[str]:
    own = PACKAGES.index(path.relative_to(SRC).parts[0])
    packages = imported_packages(ast.parse(source), path)
    return [package for package in packages if package in PACKAGES and PACKAGES.index(package) > own]


def test_imports_point_up_the_list() -> None:
    upward = {name_of(path): upward_imports(path.read_text(), path) for path in SOURCES if path.parent != SRC}
    assert not {name: packages for name, packages in upward.items() if packages}


@pytest.mark.parametrize(
    "source",
    [
        "from seedbed.cli.app import main",
        "import seedbed.training.loop",
        "from seedbed import training",
        "from .. import training",
        "from ..training import loop",
        "def later():\n    from seedbed.generation.loading import load",
    ],
)
def test_an_upward_import_is_found(source: str) -> None:
    assert upward_imports(source, SRC / "nn" / "block.py")
    assert not upward_imports("from seedbed.base.errors import ConfigError", SRC / "nn" / "block.py")


def test_every_package_is_in_the_list_and_its_init_is_empty() -> None:
    packages = {path.name for path in SRC.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= set(PACKAGES)
    assert all((SRC / package / "__init__.py").exists() for package in packages)
    assert not [name_of(path) for path in SRC.rglob("*/__init__.py") if path.read_text().strip()]


def test_files_have_at_most_350_lines_in_src_and_400_elsewhere_of_110_columns() -> None:
    lines = {name_of(path): path.read_text().splitlines() for path in CHECKED}
    most = {True: 350, False: 400}
    assert not {name: len(text) for name, text in lines.items() if len(text) > most[name.startswith("src/")]}
    assert not [
        f"{name}:{i}" for name, text in lines.items() for i, line in enumerate(text, 1) if len(line) > 110
    ]


def test_functions_have_at_most_60_lines() -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in CHECKED
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > 60
    ]
    assert not long


def test_dataclasses_have_at_most_28_fields() -> None:
    wide = []
    for path in SOURCES:
        if "@dataclass" in path.read_text():
            module = importlib.import_module(".".join(path.relative_to(SRC.parent).with_suffix("").parts))
            classes = [value for value in vars(module).values() if isinstance(value, type)]
            wide += [c for c in classes if dataclasses.is_dataclass(c) and len(dataclasses.fields(c)) > 28]
    assert not wide


def test_settings_are_frozen() -> None:
    """A dataclass of settings or a config is frozen, so that it stays as it was checked."""
    mutable = [
        f"{name_of(path)}:{node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Settings", "Config"))
        for decorator in node.decorator_list
        if "dataclass" in ast.unparse(decorator) and "frozen=True" not in ast.unparse(decorator)
    ]
    assert not mutable


def test_only_the_runtime_reads_the_environment() -> None:
    reads = re.compile(r"\bos\.(environ|getenv)\b|from os import .*(environ|getenv)")
    found = [name_of(path) for path in SOURCES if reads.search(path.read_text())]
    assert set(found) <= {"src/seedbed/base/runtime.py", "src/seedbed/base/threads.py"}


def is_overload(decorator: ast.expr) -> bool:
    """Whether a function is one of several types of another, whose docstring it has."""
    return isinstance(decorator, ast.Name) and decorator.id == "overload"


def test_every_function_and_class_has_a_docstring() -> None:
    """The first line of a public docstring is a sentence; a module has one too."""
    missing = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        nodes = [tree, *(n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)))]
        nodes += [
            m
            for n in tree.body
            if isinstance(n, ast.ClassDef)
            for m in n.body
            if isinstance(m, ast.FunctionDef) and not any(map(is_overload, m.decorator_list))
        ]
        for node in nodes if path.read_text().strip() else []:
            name = getattr(node, "name", "")
            first, *rest = (ast.get_docstring(node) or "").split("\n")
            broken = bool(rest and rest[0].strip())  # a sentence that continues on the second line
            if broken or (not name.startswith("_") and not re.search(r"[.:;,)`\w]$", first)):
                missing.append(f"{name_of(path)}:{getattr(node, 'lineno', 1)} {name}")
    assert not missing


def test_nothing_is_skipped_or_left_for_later() -> None:
    words = re.compile(
        r"pytest\.(mark\.)?(skip|xfail|importorskip)|\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|except:|assert True$"
    )
    here = Path(__file__)
    hits = [name_of(path) for path in CHECKED if path != here and words.search(path.read_text())]
    assert not hits
