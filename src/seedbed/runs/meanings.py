"""Every setting of a run with its default, allowed values and meaning, read from the source; loads no torch.

The meaning of a field is its comment, on its line or above it: `name: type = default  # meaning [allowed]`.
`[one of NAMES]` stands for a constant, `[a file of PACKAGE]` for the plug-ins of a package.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from seedbed.base.errors import UsageError
from seedbed.base.plugins import PluginPackage

REQUIRED = "required"
# Tables whose keys are those of the plug-in that they name.
PLUGINS = {"objective": ("seedbed.objectives", "OBJECTIVE"), "peft": ("seedbed.peft", "METHOD")}
_KINDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}


class Meaning(NamedTuple):
    """One setting; `plugin` names the objective or the method that has it, where a table depends on one."""

    table: str
    name: str
    kind: str
    default: Any  # REQUIRED where there is none
    allowed: str
    meaning: str
    plugin: str | None = None

    @property
    def key(self) -> str:
        """The key as in `--set`."""
        return f"{self.table}.{self.name}"

    @property
    def default_text(self) -> str:
        """The default as in a TOML file."""
        return {None: "not set", REQUIRED: REQUIRED}.get(self.default) or json.dumps(self.default)

    @property
    def sentence(self) -> str:
        """The meaning and the allowed values."""
        if self.allowed == _KINDS["str"]:
            return self.meaning
        number = "" if self.kind in (_KINDS["str"], self.allowed) else f"{self.kind}, "
        return f"{self.meaning} Allowed: {number}{self.allowed}."

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"key": self.key} | self._asdict()


class _Source(NamedTuple):
    """A module's classes and constants, and the modules that it imports names from."""

    lines: list[str]
    classes: dict[str, ast.ClassDef]
    constants: dict[str, ast.expr]
    imported: dict[str, str]


def meanings() -> list[Meaning]:
    """All settings of a run: the tables of RunSettings, and the keys of each objective and method."""
    found: list[Meaning] = []
    module = "seedbed.runs.settings"
    for table, kind, _, _ in _fields(module, "RunSettings"):
        if table not in PLUGINS:
            found += _table(table, *_home(module, kind.removesuffix(" | None")))
            continue
        package, what = PLUGINS[table]
        for name in PluginPackage[Any](package, what).names():
            found += _table(table, f"{package}.{name}", "Settings", plugin=name)
    return found


def selected(name: str | None) -> list[Meaning]:
    """The settings of a table, an objective or a method, or those with a key; all for None.

    Errors: UsageError.
    """
    known = meanings()
    if name is None:
        return known
    found = [each for each in known if name in (each.table, each.key, each.name, each.plugin)]
    if not found:
        tables = dict.fromkeys(each.table for each in known)
        near = difflib.get_close_matches(name, [*tables, *(each.key for each in known)], n=1)
        near = near or difflib.get_close_matches(name, [each.name for each in known], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"no setting or table is named {name!r}; {hint}tables: {', '.join(tables)}; `seedbed settings` "
            "lists all settings"
        )
    return found


def markdown() -> str:
    """The page docs/settings.md."""
    parts = [
        "# Settings",
        "Every setting of a run, in the tables of a TOML file (`--settings FILE`) or as `--set KEY=VALUE`. "
        "`seedbed settings [TABLE]` prints the same; `seedbed settings --markdown` writes this page.",
    ]
    headings: dict[str, list[str]] = {}
    for each in meanings():
        heading = f"[{each.table}]" + (f", {each.plugin}" if each.plugin else "")
        cells = (f"`{each.key}`", f"`{each.default_text}`", each.allowed, each.meaning)
        row = " | ".join(cell.replace("|", "\\|") for cell in cells)
        headings.setdefault(heading, []).append(f"| {row} |")
    for heading, rows in headings.items():
        table = ["| key | default | allowed | meaning |", "| --- | --- | --- | --- |", *rows]
        parts += [f"## {heading}", "\n".join(table)]
    return "\n\n".join(parts) + "\n"


def _table(table: str, module: str, name: str, *, plugin: str | None = None) -> Iterator[Meaning]:
    for field, kind, default, comment in _fields(module, name):
        meaning, _, allowed = comment.partition(" [")
        words = [word.strip() for word in kind.split("|") if word.strip() != "None"]
        choices = [str(ast.literal_eval(x)) for x in re.findall(r"['\"]\w+['\"]", kind)]
        allowed = _allowed(module, allowed.rstrip("]")) or ", ".join(choices)
        plain = " or ".join(_KINDS.get(word, word) for word in words if word in _KINDS)
        meaning = meaning.rstrip(".")
        text = f"{meaning[:1].upper()}{meaning[1:]}." if meaning else ""
        yield Meaning(table, field, "text" if choices else plain, default, allowed or plain, text, plugin)


def _allowed(module: str, text: str) -> str:
    """The allowed values, with a constant or a package's plug-ins for its name."""
    if package := text.removeprefix("a file of ") if text.startswith("a file of ") else "":
        return ", ".join(PluginPackage[Any](package, "").names())
    if text.startswith("one of "):
        module, name = _home(module, text.removeprefix("one of "))
        return ", ".join(ast.literal_eval(_source(module).constants[name]))
    return text


def _fields(module: str, name: str) -> Iterator[tuple[str, str, Any, str]]:
    """Name, type, default and comment of each field of a dataclass, those of its bases first."""
    source = _source(module)
    tree = source.classes[name]
    for base in tree.bases:
        if isinstance(base, ast.Name):
            yield from _fields(*_home(module, base.id))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default: Any = REQUIRED
            if node.value is not None:
                default = None if isinstance(node.value, ast.Call) else ast.literal_eval(node.value)
            yield node.target.id, ast.unparse(node.annotation), default, _comment(source.lines, node)


def _comment(lines: list[str], node: ast.AnnAssign) -> str:
    """The comment lines above a field and the comment on its line."""
    first = node.lineno - 1
    above = first
    while lines[above - 1].strip().startswith("#"):
        above -= 1
    last = lines[(node.end_lineno or node.lineno) - 1]
    beside = last.encode()[node.end_col_offset or 0 :].decode()
    return " ".join(line.strip().lstrip("# ") for line in (*lines[above:first], beside)).strip()


def _home(module: str, name: str) -> tuple[str, str]:
    """The module that defines a name which this one defines or imports."""
    return _source(module).imported.get(name, module), name


@cache
def _source(module: str) -> _Source:
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    text = Path(found.origin).read_text(encoding="utf-8")
    classes: dict[str, ast.ClassDef] = {}
    constants: dict[str, ast.expr] = {}
    imported: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: node.module for alias in node.names}
    return _Source(text.splitlines(), classes, constants, imported)
