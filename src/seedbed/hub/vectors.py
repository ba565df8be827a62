"""How a folder of sentence-transformers computes the vector of a text.

`modules.json` names the operations, `1_Pooling/config.json` the pooling, `sentence_bert_config.json` how many
tokens of a text are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seedbed.base.errors import BundleError
from seedbed.base.json_file import has_file, read_file, read_object
from seedbed.hub.weight_files import CONFIG

MODULES, POOLING = "modules.json", "1_Pooling"
LENGTH = "sentence_bert_config.json"  # written for every kind of encoder
FILES = (MODULES, f"{POOLING}/{CONFIG}", LENGTH)
MODES: dict[str, Literal["mean", "first"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "mean": "mean",
    "cls": "first",
}


@dataclass(frozen=True)
class VectorSettings:
    """How the vector of a text is computed.

    It is the mean or the first of the hidden states of at most `max_tokens` (None: of the model's context),
    special ones included; to `normalize` it is to make its length 1.
    """

    pooling: Literal["mean", "first"] = "mean"
    normalize: bool = False
    max_tokens: int | None = None
    lower_case: bool = False  # texts, before the tokenizer reads them
    problem: str | None = None  # the operation of the folder that is not supported


def read_vectors(folder: Path) -> VectorSettings | None:
    """The vector settings of a folder, None if it has none. Errors: BundleError if a file is damaged."""
    if not has_file(folder / MODULES) and not has_file(folder / POOLING / CONFIG):
        return None
    kinds = _modules(folder / MODULES) if has_file(folder / MODULES) else ["Transformer", "Pooling"]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        modules = ", ".join(kind if kind.isprintable() else repr(kind) for kind in kinds)[:80] or "nothing"
        return VectorSettings(problem=f"{MODULES} computes vectors by {modules}")
    values = read_object(folder / POOLING / CONFIG) if has_file(folder / POOLING / CONFIG) else {}
    modes = _modes(values)
    if len(modes) != 1 or modes[0] not in MODES:
        names = ", ".join(map(repr, modes))[:80] or "no pooling"
        return VectorSettings(problem=f"{POOLING}/{CONFIG} requests {names}")
    length, lower_case = _length(folder / LENGTH)
    return VectorSettings(MODES[modes[0]], kinds[-1] == "Normalize", length, lower_case)


def _length(file: Path) -> tuple[int | None, bool]:
    """How many tokens are read, None for as many as the context has, and whether texts become lower case."""
    values = read_object(file) if has_file(file) else {}
    length, lower_case = values.get("max_seq_length"), values.get("do_lower_case", False)
    is_length = length is None or (isinstance(length, int) and not isinstance(length, bool) and length >= 1)
    if not is_length or not isinstance(lower_case, bool):
        name, value = ("do_lower_case", lower_case) if is_length else ("max_seq_length", length)
        raise BundleError(
            f"{file} has {name}={str(value)[:40]!r}; write a whole number of at least 1 for max_seq_length, "
            "and true or false for do_lower_case"
        )
    return length, lower_case


def write_vectors(folder: Path, vectors: VectorSettings) -> None:
    """Write the files as sentence-transformers does."""
    assert vectors.problem is None
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    modules += [("2_Normalize", "Normalize")] if vectors.normalize else []
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    modes = {key: mode == vectors.pooling for key, mode in MODES.items() if key.startswith("pooling_")}
    values = json.loads((folder / CONFIG).read_text())
    width = next(values[name] for name in ("hidden_size", "d_model", "n_embd") if name in values)
    if vectors.max_tokens is not None or vectors.lower_case:
        length = {"max_seq_length": vectors.max_tokens, "do_lower_case": vectors.lower_case}
        (folder / LENGTH).write_text(json.dumps(length, indent=2) + "\n")
    (folder / MODULES).write_text(json.dumps(listed, indent=2) + "\n")
    (folder / POOLING).mkdir()
    (folder / POOLING / CONFIG).write_text(json.dumps({"word_embedding_dimension": width} | modes) + "\n")


def _modules(file: Path) -> list[str]:
    """The kinds of the modules in order; one in an unexpected folder gets the folder added to its kind."""
    try:
        modules = json.loads(read_file(file))
        places = {"Transformer": "", "Pooling": POOLING}
        return [
            kind if places.get(kind, module["path"]) == module["path"] else f"{kind} of {module['path']}"
            for module in modules
            for kind in [str(module["type"]).rpartition(".")[2]]
        ]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(
            f"{file} is not a list of modules ({error!r}); write or download it again"
        ) from None


def _modes(values: Mapping[str, Any]) -> list[str]:
    """The pooling modes that are on; the mean if none is named, as in sentence-transformers."""
    if isinstance(mode := values.get("pooling_mode"), str):
        return [mode]
    named = {key: on for key, on in values.items() if key.startswith("pooling_mode_")}
    return [key for key, on in named.items() if on] if named else ["pooling_mode_mean_tokens"]
