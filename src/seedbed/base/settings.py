"""Settings are frozen dataclasses; this file alone turns them into TOML and back, and applies flags.

The dataclasses are the only schema: pydantic checks names and types against them, `__post_init__` the values.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from seedbed.base.arguments import path_of, texts_of
from seedbed.base.errors import UsageError, nearest

Settings = TypeVar("Settings")
Tree = dict[str, Any]
KeyPath = tuple[str, ...]
Texts = Mapping[KeyPath, str]

_ALLOWED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "dataclass_type": "a table",
}


def load_settings(
    schema: type[Settings], *layers: Mapping[str, Any] | Path, overrides: Sequence[str] = ()
) -> Settings:
    """Build settings from layers, later ones winning, and then from flags of the form `section.key=value`.

    A layer is a nested mapping or the path of a TOML file. A flag's value is TOML, or text if it is not TOML
    or the setting is text; `none` unsets. An unknown key or a wrong type raises UsageError.
    """
    texts = dict(split_override(override) for override in overrides)
    return _validate(schema, layered(*layers, overrides=overrides), texts)


def layered(*layers: Mapping[str, Any] | Path, overrides: Sequence[str] = ()) -> Tree:
    """The nested mapping of layers and flags, not checked yet."""
    tree: Tree = {}
    for layer in layers:
        tree = merge(tree, read_toml(layer) if isinstance(layer, Path) else layer)
    for override in texts_of("overrides", overrides):
        path, text = split_override(override)
        tree = merge(tree, _nest(path, _parse(text)))
    return tree


def read_toml(path: Path) -> Tree:
    """Read a TOML file; UsageError with the line if it is missing or not TOML."""
    path = path_of("settings", path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read settings from {path}: {error.strerror}; name a TOML file") from None
    except RecursionError:
        raise UsageError(f"{path} has lists or tables too deep in one another; write fewer") from None
    except ValueError as error:  # of TOML, of UTF-8, or a number of thousands of digits
        raise UsageError(f"{path} is not TOML: {error}; write lines such as `learning_rate = 3e-4`") from None


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Merge one nested mapping over another: tables key by key, any other value is replaced."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def split_override(override: str) -> tuple[KeyPath, str]:
    """Split a flag `section.key=value` into the path of its key and the text of its value."""
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {override} is not section.key=value; write --set training.num_steps=500")
    return path, text.strip() or text


def to_tree(settings: Any) -> Tree:
    """Turn settings into a nested mapping of plain values, defaults included; None means not set."""
    return typing.cast(Tree, to_jsonable_python(settings))


def to_toml(settings: Any) -> str:
    """Write settings as TOML with every default; a setting that is not set appears as a comment.

    `load_settings` reads the same settings back, since only a setting whose default is None may be None.
    """
    return "\n".join(_table_lines(to_tree(settings), ())).strip() + "\n"


def difference(left: Any, right: Any, *, paths: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """The differences between two settings by dotted key: (left, right), None where absent.

    `paths` are the keys whose values are equal where they name the same path: `./a.txt` and `a.txt`.
    """
    first, second = flatten(left), flatten(right)
    pairs = {key: (first.get(key), second.get(key)) for key in first | second}
    return {
        key: pair
        for key, pair in pairs.items()
        if pair[0] != pair[1] and not (key in paths and None not in pair and len({*map(_real, pair)}) == 1)
    }


def change_text(then: Any, now: Any) -> str:
    """A difference of one setting in words."""
    before, after = ("not set" if value is None else repr(value) for value in (then, now))
    return f"was {before}, now {after}"


def _real(path: Any) -> str:
    return os.path.realpath(os.path.expanduser(str(path)))


def flatten(settings: Any) -> dict[str, Any]:
    """Turn settings or a nested mapping into one mapping by dotted key."""
    tree = settings if isinstance(settings, Mapping) else to_tree(settings)
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": deep for inner, deep in flatten(value).items()}
        else:
            flat[key] = to_jsonable_python(value)
    return flat


def _table_lines(table: Tree, path: KeyPath) -> Iterator[str]:
    """The lines of a table's own keys, then those of its tables, so that no key is in the wrong table."""
    if path:
        yield from ("", f"[{'.'.join(path)}]")
    for key, value in table.items():
        if value is None:
            yield f"# {key} is not set"
        elif not isinstance(value, dict):
            yield tomli_w.dumps({key: value}).strip()
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _table_lines(value, (*path, key))


def _parse(text: str) -> Any:
    """Read a flag's value as TOML, else as text; `none` unsets."""
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError, RecursionError):
        return text


def _nest(path: Sequence[str], value: Any) -> Tree:
    """Put a value at the end of a path of tables."""
    for key in reversed(path):
        value = {key: value}
    return typing.cast(Tree, value)


def _validate(schema: type[Settings], tree: Tree, texts: Texts) -> Settings:
    """Check a nested mapping against a dataclass and build it."""
    _refuse_unknown(schema, tree, (), texts)
    # Settings do not import pydantic; the tuple around them applies `extra` to standard dataclasses.
    adapter = TypeAdapter(tuple[schema], config={"extra": "forbid"})  # type: ignore[valid-type]
    try:
        # JSON mode is strict about types and still takes a list for a tuple and text for a path.
        return typing.cast(Settings, adapter.validate_json(json.dumps([tree], default=str), strict=True)[0])
    except ValidationError as error:
        found = error.errors(include_url=False)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the settings have a value too large or too deep to read: {error}") from None
    problems = [(*_located(tree, problem["loc"][1:]), problem) for problem in found]
    for path, value, problem in problems:
        if problem["type"] == "string_type" and path in texts and not isinstance(value, str):
            # `--set data.train=2024` looks like a number and means text.
            return _validate(schema, merge(tree, _nest(path, texts[path])), texts)
    path, value, _ = problems[0]
    raise UsageError(
        _explain(path, value, [problem for other, _, problem in problems if other == path], texts)
    )


def _refuse_unknown(schema: Any, tree: Any, path: KeyPath, texts: Texts) -> None:
    """Refuse an unknown key, naming the nearest field."""
    if not isinstance(tree, Mapping) or not dataclasses.is_dataclass(schema):
        return
    hints = typing.get_type_hints(schema)
    names = [field.name for field in dataclasses.fields(schema) if field.init]
    for key, value in tree.items():
        if key not in names:
            where = f" in [{'.'.join(path)}]" if path else ""
            flag = _origin((*path, key), texts)
            inside = "" if path else _in_a_table(key, hints)
            raise UsageError(f"unknown setting {key!r}{where}{flag}; {inside}{nearest(key, names)}")
        for kind in _arms(hints[key]):
            _refuse_unknown(kind, value, (*path, key), texts)


def _in_a_table(key: str, hints: Mapping[str, Any]) -> str:
    """Name the table of a key that was written without one, as `learning_rate` for the training's."""
    inner = {
        field.name: f"{table}.{field.name}"
        for table, hint in hints.items()
        for kind in _arms(hint)
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
    }
    near = difflib.get_close_matches(key, inner, n=1)
    return f"did you mean {inner[near[0]]!r}? " if near else ""


def _arms(hint: Any) -> Iterable[Any]:
    """The alternatives of a type: the two of `Position | None`, else the type itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _located(tree: Any, location: Sequence[Any]) -> tuple[KeyPath, Any]:
    """The path and value in the settings of an error's location, to which pydantic appends a union's arm."""
    path: KeyPath = ()
    for key in location:
        if not isinstance(tree, Mapping) or key not in tree:
            break
        path, tree = (*path, str(key)), tree[key]
    return path, tree


def _origin(path: KeyPath, texts: Mapping[KeyPath, str]) -> str:
    """` (from --set)` if the setting came from a flag, else nothing."""
    return next((" (from --set)" for flag in texts if flag[: len(path)] == path), "")


def _explain(path: KeyPath, value: Any, problems: Sequence[Any], texts: Texts) -> str:
    """One line that names the refused value and what is allowed instead."""
    if problems[0]["type"] in ("missing", "missing_argument"):
        key = ".".join((*path, str(problems[0]["loc"][-1])))
        return f"the setting {key} is missing; write it in the settings file or as --set {key}=VALUE"
    words = (_ALLOWED.get(problem["type"], problem["msg"]) for problem in problems)
    allowed = dict.fromkeys(re.sub("^(Input should be|Value error,) ", "", text) for text in words)
    shown = json.dumps(value, default=str)
    return f"{'.'.join(path)} = {shown}{_origin(path, texts)}: allowed is {' or '.join(allowed)}"
