"""The contents of a model's files: config, headers of the weights, tokenizer, generation settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from seedbed.base.arguments import brief
from seedbed.base.errors import BundleError, SeedbedError
from seedbed.base.json_file import read_object
from seedbed.base.units import bytes_text, count_text
from seedbed.hub.adapter_file import AdapterFolder, shape_of
from seedbed.hub.base import Base, base_name
from seedbed.hub.bundle import CARD, GENERATION, mismatch_errors, read_config
from seedbed.hub.download import SMALL_FILES
from seedbed.hub.gguf import gguf_numbers, inspect_gguf
from seedbed.hub.locate import hub_name
from seedbed.hub.published import require_matching_weights
from seedbed.hub.weight_files import (
    ADAPTER_WEIGHTS,
    CONFIG,
    INDEX,
    PICKLES,
    WEIGHTS,
    find_weights,
    is_index,
    missing_shards,
    open_weights,
)
from seedbed.models.family import Config
from seedbed.models.network import build, parameter_count, require_vocabulary
from seedbed.text.special_form import BLANK_KEY
from seedbed.text.tokenizer import Tokenizer

# The files of a tokenizer, of which one is enough; legacy kinds too.
TOKENIZERS = tuple(
    name
    for name in SMALL_FILES
    if name.endswith((".model", ".spm")) or name in ("tokenizer.json", "vocab.txt", "vocab.json")
)
WEIGHT_ENDS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")
FOREIGN = (".h5", ".msgpack", ".onnx", ".pth", ".pt", ".ckpt")
HEADS = {"lm": "language model", "mlm": "masked language model", "none": "no output, embeddings only"}
ADAPTER_KEYS = ("r", "lora_alpha", "target_modules")  # shown where an adapter has them
SAID = {
    WEIGHTS: "the weights: nothing loads without them; download or train the model again",
    CONFIG: "the shape of the network: nothing loads without it; take the one saved with the weights",
    "tokenizer": "token ids work, text does not: put the tokenizer.json of its training here",
    GENERATION: "answers end at the tokenizer's own end token",
    CARD: "the origin of the model is unknown",
}
Found = dict[str, Any]


def describe_bundle(path: Path) -> Found:
    """A bundle's folder, whole or in part; of the weights the headers alone are read."""
    names = {file.name for file in path.iterdir()}
    found: Found = {"holds": {}, "lacks": {}, "problems": [], "next": None}
    config, tokenizer, generation = None, None, dict[str, Any]()
    if CONFIG in names:
        with _collected(found):
            config = read_config(path)
            found["holds"] |= _config_lines(config)
    with _collected(found):
        _describe_weights(path, config, names, found)
    if names & set(TOKENIZERS):
        with _collected(found):
            tokenizer = Tokenizer.load(path)
            found["holds"] |= describe_tokenizer(tokenizer, config)
            if config is not None:
                require_vocabulary(tokenizer, config, allow_added=True)
    if GENERATION in names:
        with _collected(found):
            generation = read_object(path / GENERATION)
            found["holds"] |= _generation(generation)
    silent = config is not None and config.head.kind != "lm"  # no answers, no settings for them
    expected = {CONFIG, CARD} if silent else {CONFIG, GENERATION, CARD}
    found["lacks"] |= {name: said for name, said in SAID.items() if name in expected - names}
    if not names & set(TOKENIZERS):
        found["lacks"]["tokenizer.json"] = SAID["tokenizer"]
    if "model" in found and config is not None and not found["problems"]:
        found["next"] = advice(path, config, tokenizer, generation)
    return found


@contextmanager
def _collected(found: Found) -> Iterator[None]:
    """Make an error of a file one of the problems."""
    try:
        yield
    except SeedbedError as error:
        found["problems"].append(str(error))


def describe_gguf(path: Path) -> Found:
    """A GGUF file; no block of its weights is read."""
    found: Found = {"holds": {}, "lacks": {}, "problems": [], "next": None}
    with _collected(found):
        config, tokenizer, generation = inspect_gguf(path)
        numbers = gguf_numbers(path)
        found["holds"] = _config_lines(config) | _weight_lines(config, numbers, [path])
        if tokenizer is None:
            found["lacks"]["tokenizer"] = "token ids work, text does not: take a file that has one"
        else:
            found["holds"] |= describe_tokenizer(tokenizer, config)
        found["holds"] |= _generation(generation)
        found |= {"next": advice(path, config, tokenizer, generation)}
        found |= {"model": _facts(config, numbers, [path])}
    return found


def describe_adapter(path: Path) -> Found:
    """An adapter's folder, whether its base is there, and whether that is the one it was trained on."""
    found: Found = {"holds": {}, "lacks": {}, "problems": [], "next": None}
    with _collected(found):
        folder = AdapterFolder.read(path)
        found["holds"] |= _adapter_lines(folder)
        name = found["holds"]["base"] = base_name(folder)
        if hub_name(name):  # nothing is downloaded
            found["holds"]["base"] = f"{name} on the hub, not looked up"
            found["next"] = f'seedbed.load("{path}") in Python, which downloads {name}'
            return found
        base = Base.open(path)
        assert base.parent is not None
        found["holds"]["base"] = f"{name}, found"
        if (shape := shape_of(base.parent.config)) != folder.own.shape != "":
            problem = f"{path} was trained on a base of another shape: {folder.own.shape}, not {shape}"
            raise BundleError(f"{problem}; give that base its place")
        folder.put_on(build(_fitted(base.parent), "meta"))
        base.require_own_base()
        unknown = "the adapter does not say of which weights it is"
        same = f"{base.parent.fingerprint[:12]}, that of the base it was trained on"
        found["holds"]["fingerprint"] = unknown if folder.own.base is None else same
        found["holds"] |= _config_lines(base.config)
        if base.tokenizer is not None:
            found["holds"] |= describe_tokenizer(base.tokenizer, base.config)
        found["holds"]["merged"] = f"by seedbed export {path} --out FOLDER, into a whole model"
        found["next"] = advice(path, base.config, base.tokenizer, base.generation)
    if not (path / CARD).exists():
        found["lacks"][CARD] = SAID[CARD]
    return found


def _adapter_lines(folder: AdapterFolder) -> dict[str, str]:
    count = sum(prod(header.shape) for header in folder.headers.values())
    sizes = [f"{key} {brief(folder.values[key])}" for key in ADAPTER_KEYS if folder.values.get(key)]
    size = bytes_text((folder.path / ADAPTER_WEIGHTS).stat().st_size)
    labels = ", ".join(folder.own.labels[:8])
    lines = {"method": folder.method, "settings": ", ".join(sizes), "labels": labels}
    lines |= {"parameters": f"{count:,}", "weights": size}
    return {name: line for name, line in lines.items() if line}


def _fitted(base: Base) -> Config:
    """The config of a base, with the head of its weights where their headers can be read."""
    if base.path.is_file() or (weights := find_weights(base.path)) is None or not weights.exists():
        return base.config
    with open_weights(base.path) as opened, mismatch_errors(opened.path):
        fitted: Config = require_matching_weights(opened, base.config).config
    return fitted


def describe_tokenizer(tokenizer: Tokenizer, config: Config | None = None) -> dict[str, str]:
    """A tokenizer's kind and size; for a language model also whether it has a chat template."""
    said = {"tokenizer": f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens"}
    if tokenizer.config.get("chat_template"):
        said["chat template"] = "there"
    elif config is not None and config.head.kind == "lm":
        said["chat template"] = "none: it completes texts and does not chat"
    return said


def _describe_weights(path: Path, config: Config | None, names: set[str], found: Found) -> None:
    weights = find_weights(path, allow_pickle=True)
    if weights is None:
        others = sorted(name for name in names if name.endswith((*WEIGHT_ENDS, *FOREIGN)))
        if others and others[0].startswith("model-"):
            found["lacks"][INDEX] = "the list of the shards: download it again"
        else:
            remark = f"; {others[0]} has a format that is not supported" if others else ""
            found["lacks"][WEIGHTS] = SAID[WEIGHTS] + remark
        return
    lost = missing_shards(weights) if is_index(weights) else []
    found["lacks"] |= dict.fromkeys(lost, f"a shard that {weights.name} names: download it again")
    if weights.name in PICKLES:
        size = sum(file.stat().st_size for file in path.glob("*.bin"))
        found["holds"]["weights"] = f"a pickle, {bytes_text(size)}, not opened"
        found["lacks"][WEIGHTS] = f"{weights.name} needs --allow-pickle: it can contain a program"
        found["next"] = f"if you trust its source: seedbed export {path} --allow-pickle --out FOLDER"
    elif not lost:
        with open_weights(path) as opened:
            with mismatch_errors(opened.path):
                fitted = None if config is None else require_matching_weights(opened, config).config
            numbers = opened.numbers()
            found["holds"] |= _weight_lines(fitted, numbers, opened.files)
            if fitted is not None:
                found["holds"] |= _config_lines(fitted)
                found["model"] = _facts(fitted, numbers, opened.files)


def _config_lines(config: Config) -> dict[str, str]:
    shape = f"{config.family}, {config.shape}, {config.num_layers} layers x {config.d_model}"
    context = "any length" if config.max_positions is None else f"{config.max_positions:,} tokens"
    return {
        "model": shape,
        "head": HEADS.get(config.head.kind, config.head.kind),
        "vocabulary": f"{config.vocab_size:,} tokens",
        "context": context,
    }


def _weight_lines(config: Config | None, numbers: Counter[str], files: list[Path]) -> dict[str, str]:
    count = sum(numbers.values()) if config is None else parameter_count(config)
    size = sum(file.stat().st_size for file in files)
    kinds = ", ".join(kind for kind, _ in numbers.most_common())
    num_files = f"{len(files)} {'file' if len(files) == 1 else 'files'}"
    return {
        "parameters": f"{count:,} ({count_text(count)})" if count >= 1e6 else f"{count:,}",
        "weights": f"{kinds}; {bytes_text(size)} in {num_files}",
    }


def _facts(config: Config, numbers: Counter[str], files: list[Path]) -> Found:
    kept = ("family", "shape", "num_layers", "d_model", "vocab_size", "max_positions")
    return {name: getattr(config, name) for name in kept} | {
        "parameters": parameter_count(config),
        "dtypes": dict(numbers),
        "bytes": sum(file.stat().st_size for file in files),
        "files": [file.name for file in files],
    }


def _generation(values: dict[str, Any]) -> dict[str, str]:
    kept = {k: v for k, v in values.items() if k != "transformers_version" and not k.startswith("_")}
    return {"generation": ", ".join(f"{key} {value}" for key, value in kept.items())} if kept else {}


def advice(
    path: Path | str, config: Config, tokenizer: Tokenizer | None, generation: Mapping[str, Any]
) -> str:
    """The command that uses a model, by its head, its tokenizer and its generation settings."""
    if tokenizer is None:
        return f'seedbed.load("{path}") in Python, with token ids'
    if config.head.kind == "mlm" or BLANK_KEY in generation:
        return f'seedbed generate {path} --fill "... ___ ..."'
    if config.head.kind != "lm":
        does = {"classification": "classify", "tagging": "tag"}.get(config.head.kind, "embed")
        return f'python -c \'import seedbed; print(seedbed.load("{path}").{does}("a text"))\''
    verb = "chat" if tokenizer.config.get("chat_template") else "generate"
    return f"seedbed {verb} {path}" + ("" if verb == "chat" else ' "..."')


def predict_command(path: Path | str) -> str:
    """The command that answers the records of a file with a run or a solution."""
    return f"seedbed predict {path} FILE --out ANSWERS.jsonl"
