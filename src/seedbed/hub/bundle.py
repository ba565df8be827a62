"""A bundle: a model's folder in Hugging Face layout, written whole and loaded again before it counts.

Files: `config.json`, `model.safetensors`, `tokenizer.json` (with `tokenizer_config.json`),
`generation_config.json` and the model card `README.md`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seedbed.base.errors import BundleError, ConfigError, SeedbedError, nearest
from seedbed.base.files import disk_errors, sync
from seedbed.models.family import Config, Family, Network
from seedbed.models.network import FAMILIES, build, export_tensors, family, import_tensors
from seedbed.nn.layout import Layout
from seedbed.text.tokenizer import Tokenizer

CONFIG, WEIGHTS, GENERATION, CARD = "config.json", "model.safetensors", "generation_config.json", "README.md"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def save_bundle(
    path: Path | str,
    module: Network,
    tokenizer: Tokenizer | None = None,
    *,
    card: str = "",
    generation: Mapping[str, Any] | None = None,
) -> Path:
    """Write the network to the folder `path`, then load it again and compare its logits.

    The folder is written aside and takes the place of an earlier one only when it is whole and proven.
    Errors: HardwareError where the disk is full, BundleError where what was read back differs.
    """
    path = Path(path)
    aside = path.with_name(path.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    with disk_errors(path):
        aside.mkdir(parents=True)
        try:
            _write(aside, module, tokenizer, card, dict(generation or {}))
            _compare(aside, module)
            replaced = path.with_name(path.name + ".replaced")
            shutil.rmtree(replaced, ignore_errors=True)
            if path.exists():
                path.rename(replaced)
            aside.rename(path)
            sync(path.parent)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return path


def open_bundle(
    path: Path | str, *, dtype: str = "float32", device: str = "cpu"
) -> tuple[Network, Tokenizer | None, dict[str, Any]]:
    """The network of a folder, its tokenizer if it has one, and its generation settings.

    Errors: BundleError naming the file that is missing, cut or contradicts another.
    """
    path = Path(path)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; {nearest(dtype, DTYPES)}")
    config = read_config(path)
    weights = path / WEIGHTS
    if not weights.is_file():
        raise BundleError(f"{path} has no {WEIGHTS}; give a folder that holds config.json and {WEIGHTS}")
    module = build(config, device).to(DTYPES[dtype])
    _load(weights, module)
    tokenizer = Tokenizer.load(path) if (path / "tokenizer.json").is_file() else None
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise BundleError(
            f"the tokenizer in {path} has {tokenizer.vocab_size} tokens, but the weights know "
            f"{config.vocab_size}; use the tokenizer that the model was trained with"
        )
    generation = _read_json(path / GENERATION) if (path / GENERATION).is_file() else {}
    return module.eval(), tokenizer, generation


def read_config(path: Path) -> Config:
    """The config of a bundle's folder."""
    if not path.is_dir():
        raise BundleError(f"{path} is no folder; give a bundle: a folder that holds {CONFIG} and {WEIGHTS}")
    if not (path / CONFIG).is_file():
        raise BundleError(
            f"{path} has no {CONFIG}; give a bundle: a folder that holds {CONFIG} and {WEIGHTS}"
        )
    values = _read_json(path / CONFIG)
    chosen = _family_of(values, path)
    try:
        return chosen.read_config(values)
    except KeyError as error:
        raise BundleError(f"{path / CONFIG} lacks {error}, which the family {chosen.name} needs") from None
    except (TypeError, AttributeError) as error:
        raise BundleError(f"{path / CONFIG} does not describe a {chosen.name}: {error}") from None
    except ConfigError as error:
        raise BundleError(f"{path / CONFIG}: {error}") from None


def _family_of(values: Mapping[str, Any], path: Path) -> Family:
    families = [family(name) for name in FAMILIES.names()]
    wanted = str(values.get("model_type"))
    for one in families:
        if wanted in one.model_types:
            return one
    known = [model_type for one in families for model_type in one.model_types]
    raise BundleError(
        f"{path / CONFIG} has the model_type {wanted!r}, a family unknown here; {nearest(wanted, known)}"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise BundleError(f"{path} is not JSON ({error}); write or download it again") from None
    if not isinstance(values, dict):
        raise BundleError(
            f"{path} holds a {type(values).__name__}, not an object; write or download it again"
        )
    return values


class _File(Mapping[str, Tensor]):
    """The tensors of an open safetensors file, read one at a time; what holds nothing learnt is left out."""

    def __init__(self, opened: Any, ignored: tuple[str, ...]) -> None:
        self._opened = opened
        self._names = [
            name
            for name in opened.keys()  # noqa: SIM118 (no mapping)
            if not any(re.fullmatch(p, name) for p in ignored)
        ]

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._opened.get_tensor(name)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@torch.no_grad()
def _load(path: Path, module: Network) -> None:
    config = module.config
    chosen = family(config.family)
    try:
        with safe_open(path, framework="pt") as opened:
            theirs = _File(opened, (*chosen.ignored, *(("lm_head.weight",) if config.tie_embeddings else ())))
            import_tensors(module, theirs)
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{path} cannot be read: {error}; it is cut or damaged: write or download it again"
        ) from None
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _write(
    folder: Path, module: Network, tokenizer: Tokenizer | None, card: str, generation: dict[str, Any]
) -> None:
    config = module.config
    chosen = family(config.family)
    tensors = {name: tensor.cpu() for name, tensor in export_tensors(module).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    values = chosen.write_config(config)
    if chosen.architecture:
        values["architectures"] = [chosen.architecture]
    values["dtype"] = str(next(module.parameters()).dtype).removeprefix("torch.")
    if tokenizer is not None:
        tokenizer.save(folder)
    # Written where there is none, too: other tools would put in those of the family's published models.
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_id", None) for end in ("bos", "eos", "pad")}
    generation = {name: token for name, token in ends.items() if token is not None} | generation
    values |= ends
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
    (folder / GENERATION).write_text(json.dumps(generation, indent=2) + "\n")
    (folder / CARD).write_text(card or f"# A {config.family} model\n\nSaved by seedbed.\n", encoding="utf-8")
    for file in folder.iterdir():
        sync(file)


@torch.no_grad()
def _compare(folder: Path, module: Network) -> None:
    """Load what was written and run it beside the original on one short text of random tokens."""
    parameter = next(module.parameters())
    dtype = next(name for name, kind in DTYPES.items() if kind == parameter.dtype)
    try:
        again, _, _ = open_bundle(folder, dtype=dtype, device=str(parameter.device))
    except SeedbedError as error:
        raise BundleError(f"what was written to {folder} does not load again: {error}") from error
    config = module.config
    length = min(16, config.max_positions or 16)
    ids = torch.randint(config.vocab_size, (length,), generator=torch.Generator().manual_seed(0)).to(
        parameter.device
    )
    layout, was_training = Layout.of([length], device=parameter.device), module.training
    module.eval()
    try:
        ours, theirs = (m.output(m(ids, layout)) for m in (module, again))
    finally:
        module.train(was_training)
    if not torch.equal(ours.nan_to_num(), theirs.nan_to_num()):
        worst = (ours - theirs).abs().max().item()
        raise BundleError(
            f"what was written to {folder} gives other logits, by up to {worst:.2g}; nothing was replaced"
        )
