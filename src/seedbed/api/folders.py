"""The contents of a folder or a GGUF file, what it lacks and what to do next; no weights are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seedbed.base.arguments import brief, path_of
from seedbed.base.errors import SeedbedError, UsageError, nearest_path
from seedbed.base.json_file import read_object
from seedbed.hub.adapter_file import ADAPTER_PICKLE, is_supported
from seedbed.hub.gguf import is_gguf
from seedbed.hub.locate import PREFIX, SOLUTION, package_model
from seedbed.hub.model_contents import (
    ADAPTER_KEYS,
    FOREIGN,
    TOKENIZERS,
    WEIGHT_ENDS,
    describe_adapter,
    describe_bundle,
    describe_gguf,
    describe_tokenizer,
    predict_command,
)
from seedbed.hub.weight_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG
from seedbed.report.run_files import is_run, read_run
from seedbed.text.tokenizer import Tokenizer
from seedbed.training.checkpoints import Checkpoints, verify
from seedbed.training.run_folder import damaged_files, damaged_shards

RESULTS = ("adapter", "model")  # folders of what a run made
Found = dict[str, Any]


def examine_folder(name: str) -> Found:
    """A folder, a GGUF file or `package:NAME`: its kind, what it has, what it lacks, what is damaged.

    `next` says what to do with it. Of the weights the headers alone are read.
    """
    path = path_of("model", name).expanduser()
    if name.startswith(PREFIX):
        path = package_model(name.removeprefix(PREFIX))
    if not path.exists():
        raise UsageError(
            f"{name} does not exist; {nearest_path(path)}give the folder of a model, a run, a tokenizer or a "
            "demo, a .gguf file, or package:NAME"
        )
    if path.is_file() and not is_gguf(path):
        raise UsageError(f"{path} is a file; give its folder, or a .gguf file")
    kind, examine = _kind_of(path)
    found: Found = {"holds": {}, "lacks": {}, "problems": [], "next": None} | examine(path)
    if found["next"] is not None and name.startswith(PREFIX):
        found["next"] = found["next"].replace(str(path), name)
    return {"folder": str(path), "kind": kind} | found


def _kind_of(path: Path) -> tuple[str, Callable[[Path], Found]]:
    if is_gguf(path):
        return "GGUF file", describe_gguf
    names = {file.name for file in path.iterdir()}
    if is_run(path):
        return "run", _run
    if ADAPTER_CONFIG in names and CONFIG not in names:
        return "adapter", _adapter
    if CONFIG in names or any(name.endswith((*WEIGHT_ENDS, *FOREIGN)) for name in names):
        return "bundle", describe_bundle
    ggufs = sorted(name for name in names if name.endswith(".gguf"))
    if len(ggufs) == 1:
        return "folder with a GGUF file", lambda path: describe_gguf(path / ggufs[0])
    if ggufs:
        return "folder of GGUF files", lambda path: _several(path, ggufs)
    if names & set(TOKENIZERS):
        return "tokenizer", _tokenizer
    if _runs(path):
        return "project", _project
    raise UsageError(
        f"{path} has no file that seedbed knows: {CONFIG}, weights, .gguf file, settings.toml, "
        "tokenizer.json or runs; make some with `seedbed demo` or `seedbed pretrain`"
    )


def _several(path: Path, names: list[str]) -> Found:
    """Several GGUF files: the model of each, or what is wrong with it."""
    found = {name: describe_gguf(path / name) for name in names}
    holds = {name: one["holds"].get("model") or one["problems"][0] for name, one in found.items()}
    return {"holds": holds, "next": f'name one: seedbed generate {path / names[0]} "..."'}


def _adapter(path: Path) -> Found:
    """What a PEFT method added to a model, and the model that it needs."""
    values = read_object(path / ADAPTER_CONFIG)
    sizes = [f"{key} {brief(values[key])}" for key in ADAPTER_KEYS if values.get(key)]
    holds = {
        "method": str(values.get("peft_type", "unknown")).lower(),
        "base": str(values.get("base_model_name_or_path") or "") or None,
        "settings": ", ".join(sizes) or None,
    }
    if not any((path / name).exists() for name in (ADAPTER_WEIGHTS, ADAPTER_PICKLE)):
        lost = {ADAPTER_WEIGHTS: "the weights of the adapter: download or train it again"}
        return {"holds": holds, "lacks": lost}
    found = describe_adapter(path)
    if not is_supported(values):
        found["next"] = "merge it into its base with the tool that made it, and give the whole model"
    return found | {"holds": holds | found["holds"]}


def _tokenizer(path: Path) -> Found:
    """A tokenizer without a model."""
    try:
        tokenizer = Tokenizer.load(path)
    except SeedbedError as error:
        return {"problems": [str(error)]}
    lacks = {CONFIG: "a model"}
    if tokenizer.eos_id is None:
        lacks["end token"] = "answers end at their length alone"
    advice = f"seedbed pretrain DATA --tokenizer {path} --out RUN"
    return {"holds": describe_tokenizer(tokenizer), "lacks": lacks, "next": advice}


def _run(path: Path) -> Found:
    """A run: its last step, its checkpoints verified, its model."""
    files, checkpoints = read_run(path), Checkpoints(path / "checkpoints")
    checked = (verify(checkpoints.folder / f"{step:06d}") for step in checkpoints.steps())
    problems = [problem for problem in checked if problem] + damaged_files(path) + damaged_shards(path)
    holds: dict[str, Any] = {"steps": f"{files.last_step:,} of {files.num_steps or 0:,}"}
    if checkpoints.steps():
        holds["checkpoints"] = "after step " + ", ".join(f"{step:,}" for step in checkpoints.steps())
    score = files.score(files.unit)
    if score is not None:
        holds["held-out"] = f"{score.loss.value:.3f} {files.unit} after step {score.step:,}"
    lacks, found, advice = {}, {}, None
    result = next((path / name for name in RESULTS if (path / name).is_dir()), None)
    if result is not None:
        model = describe_bundle(result) if result.name == "model" else describe_adapter(result)
        holds |= {name: str(line).replace(str(result), str(path)) for name, line in model["holds"].items()}
        problems += model["problems"]
        found = {"model": model["model"]} if "model" in model else {}
        if model.get("next") is not None:
            advice = model["next"].replace(str(result), str(path))
            advice = predict_command(path) if _answers_records(path, files.settings) else advice
    else:
        adapts = files.settings.get("peft.method") is not None
        name, verb = ("adapter/", "tune") if adapts else ("model/", "pretrain")
        lacks[name] = f"the run is not finished: repeat its `seedbed {verb}` command"
    if not (path / "report.html").exists():
        lacks["report.html"] = f"seedbed report {path}"
    return {"holds": holds, "lacks": lacks, "problems": problems, "next": advice} | found


def _answers_records(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a run answers records: it has a task, or a head with labels."""
    kinds = ("classification", "tagging")
    has_task = any(name.startswith("task.") for name in settings)
    return (path / SOLUTION).exists() and (has_task or settings.get("objective.name") in kinds)


def _runs(path: Path) -> list[Path]:
    inner = path / "runs" if (path / "runs").is_dir() else path
    return [folder for folder in sorted(inner.iterdir()) if folder.is_dir() and is_run(folder)]


def _project(path: Path) -> Found:
    """A folder of runs, for example of a demo."""
    each: Mapping[str, Found] = {run.name: _run(run) for run in _runs(path)}
    return {
        "holds": {name: f"{run['holds']['steps']} steps" for name, run in each.items()},
        "lacks": {
            f"{name}/{part}": what for name, run in each.items() for part, what in run["lacks"].items()
        },
        "problems": [f"{name}: {problem}" for name, run in each.items() for problem in run["problems"]],
        "next": f"seedbed report {path}",
    }
