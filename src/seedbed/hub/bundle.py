"""A bundle: a model's folder in Hugging Face layout, written aside and loaded again before it is renamed.

Files: `config.json`, `model.safetensors` (or shards), `tokenizer.json` with `tokenizer_config.json` and, for
a chat model, `chat_template.jinja`; `generation_config.json` and the model card `README.md`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from seedbed.base.errors import BundleError, ConfigError, SeedbedError, SeedbedWarning, nearest
from seedbed.base.files import disk_errors, replaced_folder
from seedbed.base.json_file import has_file, read_object
from seedbed.base.runtime import find_device
from seedbed.hub.generation_file import valid_settings
from seedbed.hub.gguf import fill_from_gguf, gguf_numbers, inspect_gguf, is_gguf
from seedbed.hub.published import require_matching_weights
from seedbed.hub.tensor_files import save_tensors
from seedbed.hub.vectors import LENGTH, MODULES, POOLING, VectorSettings, read_vectors, write_vectors
from seedbed.hub.weight_files import CONFIG, WEIGHTS, open_weights
from seedbed.models.family import Config, Family, Network
from seedbed.models.network import FAMILIES, export_tensors, family, require_vocabulary
from seedbed.nn.config import ModelConfig
from seedbed.nn.layout import Layout
from seedbed.nn.linear import LinearLike, plain_weights
from seedbed.text.tokenizer import TEMPLATE_FILE, Tokenizer

GENERATION, CARD = "generation_config.json", "README.md"
FILES = {CONFIG, WEIGHTS, GENERATION, CARD, "tokenizer.json", "tokenizer_config.json", TEMPLATE_FILE}
FILES |= {MODULES, POOLING, LENGTH}
ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
NAMED_TOKENS = (*ENDS, "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")
# Settings that `transformers`' generate reads from config.json if there is no generation_config.json.
RECOMMENDED = (
    *("max_new_tokens", "max_length", "min_length", "do_sample", "temperature", "top_k", "top_p"),
    *("num_beams", "length_penalty", "early_stopping", "no_repeat_ngram_size", "repetition_penalty"),
)
PARTIAL, REPLACED = ".partial", ".replaced"
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


def save_bundle(
    path: Path | str,
    module: Network,
    tokenizer: Tokenizer | None = None,
    *,
    card: str = "",
    generation: Mapping[str, Any] | None = None,
    vectors: VectorSettings | None = None,
    force: bool = False,
) -> Path:
    """Write the network to the folder `path`, load it again and compare the logits.

    An earlier bundle of the same network is replaced, with `force` any. Errors: HardwareError if the disk is
    full; BundleError if the loaded network differs, or if `path` contains another model or a file that is not
    part of a bundle.
    """
    path = Path(path).resolve()
    require_replaceable(path, FILES, "a bundle")
    if not force and path.exists() and any(path.iterdir()) and not _is_of(path, module):
        raise BundleError(
            f"{path} contains another model; choose a new folder, or replace it with --force (force=True in "
            "Python)"
        )
    with disk_errors(path), replaced_folder(path, partial=PARTIAL, earlier=REPLACED) as aside:
        _write(aside, module, tokenizer, card, dict(generation or {}))
        if vectors is not None:
            write_vectors(aside, vectors)
        _compare(aside, module)
    return path


def open_bundle(
    path: Path | str, *, dtype: str = "float32", device: str = "cpu", allow_pickle: bool = False
) -> tuple[Network, Tokenizer | None, dict[str, Any]]:
    """The network of a folder or a GGUF file, its tokenizer and generation settings. Errors: BundleError."""
    config, tokenizer, generation = read_bundle(Path(path))
    module = read_network(Path(path), config, dtype=dtype, device=device, allow_pickle=allow_pickle)
    return module, tokenizer, generation


def read_bundle(path: Path) -> tuple[Config, Tokenizer | None, dict[str, Any]]:
    """The config, tokenizer and generation settings of a folder or a GGUF file."""
    if is_gguf(path):
        config, tokenizer, generation = inspect_gguf(path)
        return config, tokenizer, valid_settings(generation, path, vocab_size=config.vocab_size)
    config, folder = read_config(path), folder_to_read(path)
    tokenizer = Tokenizer.load(folder) if Tokenizer.is_in(folder) else None
    require_vocabulary(tokenizer, config, allow_added=True)
    file = folder / GENERATION if has_file(folder / GENERATION) else folder / CONFIG
    values = read_object(file)
    if file.name == CONFIG:  # legacy files have the settings there
        names = (*NAMED_TOKENS, *RECOMMENDED)
        values = {name: values[name] for name in names if values.get(name) is not None}
    return config, tokenizer, valid_settings(values, file, vocab_size=config.vocab_size)


def read_network(
    path: Path, config: Config, *, dtype: str = "float32", device: str = "cpu", allow_pickle: bool = False
) -> Network:
    """The network of a folder or a GGUF file whose config has been read, in evaluation mode."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; {nearest(dtype, DTYPES)}")
    place = find_device(device)
    if is_gguf(path):
        return fill_from_gguf(path, config, dtype=DTYPES[dtype], device=place)
    with (
        open_weights(folder_to_read(path), allow_pickle=allow_pickle) as weights,
        mismatch_errors(weights.path),
    ):
        tensors = require_matching_weights(weights, config)
        tensors.require_equal_copies()
        return tensors.fill(tensors.config, weights.path, dtype=DTYPES[dtype], device=place)


@contextmanager
def mismatch_errors(path: Path) -> Iterator[None]:
    """Add the path of the weights to a BundleError, and the reason for it where `config.json` has one."""
    try:
        yield
    except BundleError as error:
        problem = str(error)
        if not problem.startswith(str(path.parent)):
            reason = _reason(path.parent)
            problem = f"{path}: " + (f"{problem.partition('; ')[0]}; {reason}" if reason else problem)
        raise BundleError(problem) from None


def _reason(folder: Path) -> str | None:
    """Why weights cannot be read: what is not supported in their `config.json`, if anything."""
    values = read_object(folder / CONFIG)
    if isinstance(quantized := values.get("quantization_config"), dict):
        method = str(quantized.get("quant_method", "an unnamed method"))[:40]
        return (
            f"{CONFIG} says that they are quantized by {method!r}, which is not supported; take the "
            "model that is not quantized, or a .gguf file"
        )
    chosen = _family_of(values, folder)
    names, supported = values.get("architectures"), sorted(chosen.architectures.values())
    names = names if isinstance(names, list) else []
    if not supported or any(name in supported for name in names):
        return None
    what = f"the class {str(names[0])[:60]!r}" if names else "no class"
    return (
        f"{CONFIG} names {what}; supported for {chosen.name}: {', '.join(supported)}; take a model of these"
    )


def folder_to_read(path: Path) -> Path:
    """The bundle's folder, or the earlier one if a save was killed between its two renames."""
    replaced = path.with_name(path.name + REPLACED) if path.name else path
    return path if path.exists() or not replaced.is_dir() else replaced


def vector_settings(path: Path) -> VectorSettings | None:
    """The settings for vectors of texts in a bundle's folder, None if it has none."""
    return None if is_gguf(path) else read_vectors(folder_to_read(path))


def require_replaceable(path: Path, files: Collection[str], what: str) -> None:
    """Refuse a folder that `what`, which consists of `files`, cannot replace without a loss."""
    if not path.name:
        raise BundleError(f"{what} cannot replace {path}; choose a new folder in it")
    if Path.cwd().is_relative_to(path):
        raise BundleError(
            f"{path} is the current folder, or around it, and a save replaces a folder as a whole; choose "
            "another one, or change to the folder above it"
        )
    if path.exists() and not path.is_dir():
        raise BundleError(f"{path} is a file, but {what} is a folder; choose another name")
    others = sorted({file.name for file in path.iterdir()} - {*files}) if path.exists() else []
    if others:
        raise BundleError(
            f"{path} contains {others[0]}, which is not part of {what} and would be lost; choose a new folder"
        )


def _is_of(path: Path, module: Network) -> bool:
    """Whether a bundle has exactly these weights, compared in the smaller of the two dtypes."""
    tensors = export_tensors(module)
    try:
        with open_weights(path) as weights:
            pairs = ((tensors[name], weights.read(name)) for name in weights.headers)
            return weights.headers.keys() == tensors.keys() and all(is_equal(*pair) for pair in pairs)
    except SeedbedError:  # damaged, or no bundle
        return False


def is_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal in the smaller of their dtypes."""
    dtype = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    return one.shape == other.shape and torch.equal(one.cpu().to(dtype), other.to(dtype))


def read_config(path: Path) -> Config:
    """The config of a bundle's folder."""
    path = folder_to_read(path)
    if not has_file(path / CONFIG):
        problem = f"has no {CONFIG}" if path.is_dir() else "is not a folder"
        raise BundleError(f"{path} {problem}; give a bundle: a folder with {CONFIG} and {WEIGHTS}")
    values = read_object(path / CONFIG)
    chosen = _family_of(values, path)
    try:
        return chosen.with_head(chosen.read_config(values), values)
    except KeyError as error:
        raise BundleError(f"{path / CONFIG} lacks {error}, which the family {chosen.name} needs") from None
    except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise BundleError(f"{path / CONFIG} does not describe a {chosen.name}: {error}") from None
    except ConfigError as error:
        raise BundleError(f"{path / CONFIG}: {error}") from None


def stored_dtype(path: Path, *, allow_pickle: bool = False) -> str:
    """The dtype of most of a model's numbers; float32 if a bundle cannot be written in that dtype."""
    if is_gguf(path):
        counts = gguf_numbers(path)
    else:
        with open_weights(folder_to_read(path), allow_pickle=allow_pickle) as weights:
            counts = weights.numbers()
    kind = counts.most_common(1)[0][0] if counts else ""
    return {"F16": "float16", "BF16": "bfloat16"}.get(kind, kind if kind in DTYPES else "float32")


def _family_of(values: Mapping[str, Any], path: Path) -> Family:
    families = {one.model_type: one for one in map(family, FAMILIES.names())}
    if (kind := str(values.get("model_type"))) not in families:
        raise BundleError(
            f"{path / CONFIG} has the model_type {kind!r}, an unknown family; {nearest(kind, families)}"
        )
    return families[kind]


def _write(
    folder: Path, module: Network, tokenizer: Tokenizer | None, card: str, generation: dict[str, Any]
) -> None:
    config = module.config
    chosen = family(config.family)
    save_tensors(export_tensors(module), folder / WEIGHTS, metadata={})
    values = chosen.write_config(config) | chosen.head_values(config)
    values["dtype"] = str(module.dtype).removeprefix("torch.")
    if tokenizer is not None:
        tokenizer.save(folder)
    # Also written if there is none: other tools would use those of the family's published models.
    ends = {end: getattr(tokenizer, end.removesuffix("_token_id") + "_id", None) for end in ENDS}
    starts = {name: values[name] for name in NAMED_TOKENS if name not in ENDS and name in values}
    generation = starts | {name: token for name, token in ends.items() if token is not None} | generation
    values = {end: generation.get(end) for end in ENDS} | values
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
    (folder / GENERATION).write_text(json.dumps(generation, indent=2) + "\n")
    (folder / CARD).write_text(card or f"# A {config.family} model\n\nSaved by seedbed.\n", encoding="utf-8")


@torch.no_grad()
def _compare(folder: Path, module: Network) -> None:
    """Load the written bundle and compare its logits with the original's on a few random tokens."""
    dtype = next(name for name, kind in DTYPES.items() if kind == module.dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeedbedWarning)  # the original has warned already
            loaded, _, _ = open_bundle(folder, dtype=dtype, device=str(module.device))
    except SeedbedError as error:
        raise BundleError(f"the bundle written to {folder} does not load again: {error}") from error
    # A wrapper sums in another order than the dense weight that was written.
    plain = all(plain_weights(part) is not None for part in module.modules() if isinstance(part, LinearLike))
    compare_logits(
        module, loaded, 0.0 if plain else torch.finfo(module.dtype).eps ** 0.5, f"bundle written to {folder}"
    )


@torch.no_grad()
def compare_logits(module: Network, loaded: Network, tolerance: float, what: str) -> None:
    """Compare the logits of two networks on a few random tokens; `tolerance` is a share of the largest one.

    Errors: BundleError that says `what` was written.
    """
    config = module.config
    length = min(16, config.max_positions or 16)
    ids = torch.randint(config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    ids, layout = ids.to(module.device), Layout.of([length], device=module.device)
    both_stacks = isinstance(config, ModelConfig) and config.shape == "encoder-decoder"
    source = {"source": ids, "source_layout": layout} if both_stacks else {}
    was_training = module.training
    module.eval()
    try:
        expected, logits = (m.output(m(ids, layout, **source)) for m in (module, loaded.eval()))
    finally:
        module.train(was_training)
    expected = expected.to(logits.dtype)
    atol = tolerance * max(1.0, expected.abs().max().item())
    if not torch.allclose(expected, logits, rtol=0, atol=atol, equal_nan=True):
        worst = (expected - logits).abs().max().item()
        raise BundleError(f"the {what} gives other logits, by up to {worst:.2g}; nothing was replaced")
