"""Export of a model to a format of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seedbed import __version__
from seedbed.base.errors import ConfigError, nearest
from seedbed.generation.loading import load
from seedbed.hub.adapter_file import is_adapter
from seedbed.hub.base import Base
from seedbed.hub.bundle import stored_dtype
from seedbed.hub.locate import locate
from seedbed.hub.model_contents import advice

FORMATS = ("bundle",)


def export(
    model: str | Path,
    *,
    out: Path,
    format: str = "bundle",
    dtype: str | None = None,
    device: str = "cpu",
    allow_pickle: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Write a model as a bundle that `transformers` loads; return its files, size and next command.

    An adapter is merged into its base. Without a `dtype` the weights keep theirs; those of a quantized GGUF
    file become float32. `force` also replaces another model's bundle.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}; {nearest(format, FORMATS)}")
    path = locate(model, allow_pickle=allow_pickle)
    whole, parent = path, None
    if is_adapter(path):
        parent = Base.open(path, allow_pickle=allow_pickle).parent
        assert parent is not None
        whole = locate(parent.name, allow_pickle=allow_pickle)
    chosen = dtype or stored_dtype(whole, allow_pickle=allow_pickle)
    lm = load(path, dtype=chosen, device=device, allow_pickle=allow_pickle)
    source = f"`{model}`"
    if parent is not None:
        lm.merge()
        source += f", an adapter merged into its base `{parent.name}`"
    card = f"# A {lm.config.family} model\n\nExported by seedbed {__version__} from {source}, in {chosen}.\n"
    lm.save(out, card=card, force=force)
    written = sorted(file for file in Path(out).rglob("*") if file.is_file())
    files = {str(file.relative_to(out)): file.stat().st_size for file in written}
    return {
        "model": str(model),
        "folder": str(out),
        "format": format,
        "family": lm.config.family,
        "parameters": sum(parameter.numel() for parameter in lm.module.parameters()),
        "dtype": chosen,
        "merged_into": None if parent is None else parent.name,
        "bytes": sum(files.values()),
        "files": files,
        "next": advice(out, lm.config, lm.tokenizer, lm.generation),
    }
