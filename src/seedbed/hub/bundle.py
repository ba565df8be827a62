"""A bundle: a model's folder in Hugging Face layout, written whole and loaded again before it counts.

Files: `config.json`, `model.safetensors`, `tokenizer.json` (with `tokenizer_config.json`, and with
`chat_template.jinja` if the model talks),
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
from seedbed.base.runtime import find_device
from seedbed.hub.gguf import is_gguf, open_gguf, read_gguf_config, read_gguf_tokenizer
from seedbed.models.family import Config, Family, Network
from seedbed.models.network import FAMILIES, build, export_tensors, family, import_tensors, require_plausible
from seedbed.nn.config import ModelConfig
from seedbed.nn.layout import Layout
from seedbed.text.tokenizer import TEMPLATE_FILE, Tokenizer

CONFIG, WEIGHTS, GENERATION, CARD = "config.json", "model.safetensors", "generation_config.json", "README.md"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
FILES = {CONFIG, WEIGHTS, GENERATION, CARD, TOKENIZER, TOKENIZER_CONFIG, TEMPLATE_FILE}
ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
NAMED_TOKENS = (*ENDS, "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
PARTIAL, REPLACED = ".partial", ".replaced"
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def save_bundle(
    path: Path | str,
    module: Network,
    tokenizer: Tokenizer | None = None,
    *,
    card: str = "",
    generation: Mapping[str, Any] | None = None,
) -> Path:
    """Write the network to the folder `path`, then load it again and compare its logits.

    The folder is written aside and takes the place of an earlier bundle only when it is whole and proven.
    Errors: HardwareError where the disk is full, BundleError where what was read back differs, or where
    `path` holds anything that is not a bundle's.
    """
    path = Path(path).resolve()
    _require_replaceable(path)
    _require_fitting(tokenizer, module.config)
    aside, replaced = path.with_name(path.name + PARTIAL), path.with_name(path.name + REPLACED)
    with disk_errors(path):
        _put_back(path)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            _write(aside, module, tokenizer, card, dict(generation or {}))
            _compare(aside, module)
            shutil.rmtree(replaced, ignore_errors=True)
            if path.exists():
                path.rename(replaced)
            aside.rename(path)
            sync(path.parent)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            _put_back(path)
            shutil.rmtree(aside, ignore_errors=True)
    return path


def open_bundle(
    path: Path | str, *, dtype: str = "float32", device: str = "cpu"
) -> tuple[Network, Tokenizer | None, dict[str, Any]]:
    """The network of a folder or a GGUF file, its tokenizer if it has one, and its generation settings.

    Errors: BundleError naming the file that is missing, cut or contradicts another.
    """
    path = Path(path)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; {nearest(dtype, DTYPES)}")
    place = find_device(device)
    if is_gguf(path):
        return open_gguf(path, dtype=DTYPES[dtype], device=place)
    config, folder = read_config(path), _settled(path)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise BundleError(f"{path} has no {WEIGHTS}; give a folder that holds {CONFIG} and {WEIGHTS}")
    try:
        weights.open("rb").close()  # the library calls a file that may not be read one that is not there
    except OSError as error:
        raise BundleError(f"{weights} cannot be read: {error.strerror}; see who may read it") from None
    tokenizer = Tokenizer.load(folder) if Tokenizer.is_in(folder) else None
    _require_fitting(tokenizer, config)
    module = _load(weights, config, DTYPES[dtype], place)
    if (folder / GENERATION).is_file():
        generation = _read_json(folder / GENERATION)
    else:  # older files say it in their config
        values = _read_json(folder / CONFIG)
        generation = {name: values[name] for name in NAMED_TOKENS if values.get(name) is not None}
    return module.eval(), tokenizer, generation


def _settled(path: Path) -> Path:
    """Where the bundle lies: beside its place where a save was killed between its two renames."""
    replaced = path.with_name(path.name + REPLACED) if path.name else path
    return path if path.exists() or not replaced.is_dir() else replaced


def _put_back(path: Path) -> None:
    """Give an earlier bundle its place again where no later one took it."""
    if not path.exists() and _settled(path) != path:
        _settled(path).rename(path)


def _require_replaceable(path: Path) -> None:
    """Never replace a folder of the user's that is no bundle."""
    if not path.name:
        raise BundleError(f"a bundle cannot take the place of {path}; choose a new folder in it")
    if path.exists() and not path.is_dir():
        raise BundleError(f"{path} is a file, but a bundle is a folder; choose another name")
    others = sorted({file.name for file in path.iterdir()} - FILES) if path.exists() else []
    if others:
        raise BundleError(
            f"{path} holds {others[0]}, which is no part of a bundle and would be lost; choose a new folder"
        )


def _require_fitting(tokenizer: Tokenizer | None, config: Config) -> None:
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise BundleError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but the weights know {config.vocab_size}; use "
            f"the tokenizer that the model was trained with"
        )


def read_config(path: Path) -> Config:
    """The config of a bundle's folder or a GGUF file."""
    if is_gguf(path):
        return read_gguf_config(path)
    path = _settled(path)
    if not (path / CONFIG).is_file():
        problem = f"has no {CONFIG}" if path.is_dir() else "is no folder"
        raise BundleError(f"{path} {problem}; give a bundle: a folder that holds {CONFIG} and {WEIGHTS}")
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


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a bundle's folder or a GGUF file."""
    tokenizer = read_gguf_tokenizer(path) if is_gguf(path) else Tokenizer.load(path)
    if tokenizer is None:
        raise BundleError(f"{path} holds no tokenizer; give a model or a folder that has one")
    return tokenizer


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
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}; see who may read it") from None
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise BundleError(f"{path} is not JSON ({error}); write or download it again") from None
    if not isinstance(values, dict):
        raise BundleError(
            f"{path} holds a {type(values).__name__}, not an object; write or download it again"
        )
    return values


class _File(Mapping[str, Tensor]):
    """The tensors of an open safetensors file, read one at a time; what holds nothing learnt is left out.

    A file that was saved without the output lacks the family's prefix before each name. A tensor that the
    family ties to another may lie there as well as the other, or in its place.
    """

    def __init__(self, opened: Any, chosen: Family, config: Config) -> None:
        names = list(opened.keys())
        bare = not any(name.startswith(chosen.prefix) for name in names)
        given = {(chosen.prefix if bare else "") + name: name for name in names}
        self._opened = opened
        self._names = {
            name: their
            for name, their in given.items()
            if not any(re.fullmatch(p, name) for p in chosen.ignored)
        }
        self.config = chosen.fit(config, self._names.keys())
        for name in chosen.zero:
            if (their := self._names.pop(name, None)) is not None and opened.get_tensor(their).any():
                raise BundleError(
                    f"{name} is not zero, and {chosen.name} has no place for it; take another model"
                )
        self._twice = []
        for copy, original in chosen.copies(self.config).items():
            if (their := self._names.pop(copy, None)) is not None:
                self._twice.append((their, self._names.setdefault(original, their)))

    def require_equal_copies(self) -> None:
        """Refuse tensors that are one in this config and two in the file."""
        for copy, original in self._twice:
            if copy != original and not torch.equal(*map(self._opened.get_tensor, (copy, original))):
                raise BundleError(
                    f"{copy} differs from {original}, which {CONFIG} ties it to; if it is the output, set "
                    "tie_word_embeddings to false"
                )

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._opened.get_tensor(self._names[name])
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@torch.no_grad()
def _load(path: Path, config: Config, dtype: torch.dtype, device: torch.device) -> Network:
    try:
        with safe_open(path, framework="pt") as opened:
            theirs = _File(opened, family(config.family), config)
            config = theirs.config
            require_plausible(config, len(theirs), path.stat().st_size, "bytes")
            module = build(config, device).to(dtype)
            import_tensors(module, theirs)
            theirs.require_equal_copies()
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{path} cannot be read: {error}; it is cut or damaged: write or download it again"
        ) from None
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    return module


def _write(
    folder: Path, module: Network, tokenizer: Tokenizer | None, card: str, generation: dict[str, Any]
) -> None:
    config = module.config
    chosen = family(config.family)
    tensors = {name: tensor.cpu() for name, tensor in export_tensors(module).items()}
    try:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # an OSError as text
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, str(error)) from error
    values = chosen.write_config(config)
    if (architecture := chosen.architecture(config)) is not None:
        values["architectures"] = [architecture]
    values["dtype"] = str(next(module.parameters()).dtype).removeprefix("torch.")
    if tokenizer is not None:
        tokenizer.save(folder)
    # Written where there is none, too: other tools would put in those of the family's published models.
    ends = {end: getattr(tokenizer, end.removesuffix("_token_id") + "_id", None) for end in ENDS}
    starts = {name: values[name] for name in NAMED_TOKENS if name not in ENDS and name in values}
    generation = starts | {name: token for name, token in ends.items() if token is not None} | generation
    values = ends | values
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
    (folder / GENERATION).write_text(json.dumps(generation, indent=2) + "\n")
    (folder / CARD).write_text(card or f"# A {config.family} model\n\nSaved by seedbed.\n", encoding="utf-8")
    for file in (*folder.iterdir(), folder):
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
    ids = torch.randint(config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    ids, layout = ids.to(parameter.device), Layout.of([length], device=parameter.device)
    both_stacks = isinstance(config, ModelConfig) and config.shape == "encoder-decoder"
    source = {"source": ids, "source_layout": layout} if both_stacks else {}
    was_training = module.training
    module.eval()
    try:
        ours, theirs = (m.output(m(ids, layout, **source)) for m in (module, again))
    finally:
        module.train(was_training)
    if not torch.allclose(ours, theirs, rtol=0, atol=0, equal_nan=True):
        worst = (ours - theirs).abs().max().item()
        raise BundleError(
            f"what was written to {folder} gives other logits, by up to {worst:.2g}; nothing was replaced"
        )
