"""Where a model is: a folder, a GGUF file, an installed Python package, or the hub."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path

from seedbed.base.arguments import path_of
from seedbed.base.errors import BundleError, nearest_path
from seedbed.hub.download import NAME, download
from seedbed.hub.weight_files import ADAPTER_CONFIG, CONFIG, WEIGHTS

PREFIX = "package:"
MAX_FILES = 100_000
SOLUTION = "solution.toml"


def is_model(model: str | Path) -> bool:
    """Whether a name can be a model's: a path, `package:NAME`, or a name on the hub."""
    path_of("model", model)
    name = str(model)
    return name.startswith(PREFIX) or "/" in name or Path(model).expanduser().exists()


def hub_name(model: str | Path) -> re.Match[str] | None:
    """The parts of a name on the hub; None for a path: one that exists, or is in a folder that exists.

    A revision makes it a name on the hub: `org/name@main`.
    """
    match = NAME.fullmatch(str(model))
    if match is None or Path(model).expanduser().exists():
        return None
    return match if match["revision"] or not Path(match["repo"]).parent.is_dir() else None


def locate(model: str | Path, *, weights: bool = True, allow_pickle: bool = False) -> Path:
    """The path of a model: the folder of its `config.json`, that of an adapter, or a GGUF file.

    It is the path itself, that of the model which a solution names, `model` or `adapter` in a run's folder,
    the only `.gguf` file of a folder without a config, the model in an installed package, or what `download`
    returns.
    """
    path_of("model", model)
    if str(model).startswith(PREFIX):
        return package_model(str(model).removeprefix(PREFIX))
    if hub_name(model):
        return download(str(model), weights=weights, allow_pickle=allow_pickle)
    path = Path(model).expanduser()
    if not path.exists():
        folder = (
            f" ({path.parent} is a folder; {model}@main names the hub)" if NAME.fullmatch(str(model)) else ""
        )
        raise BundleError(
            f"there is no model at {model}{folder}; {nearest_path(path)}give a bundle's or a run's folder, a "
            ".gguf file, package:NAME or org/name on the hub"
        )
    if path.is_file() or any((path / name).exists() for name in (CONFIG, ADAPTER_CONFIG)):
        return path
    if (path / SOLUTION).is_file():
        return locate(_model_of(path / SOLUTION), weights=weights, allow_pickle=allow_pickle)
    for inner in (path / "model", path / "adapter"):
        if inner.is_dir():
            return inner
    if (path / "settings.toml").exists() or (path / ".lock").exists():
        raise BundleError(f"the run in {path} has no model yet; run its command again to finish it")
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise BundleError(f"{path} contains {len(files)} models; give the path of one: {files[0]}")
    return files[0] if files else path


def _model_of(file: Path) -> str:
    """The name of the model in a solution's file; a relative path may begin at its folder."""
    try:
        name = tomllib.loads(file.read_text(encoding="utf-8"))["model"]["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    own = (
        {Path(name).expanduser().resolve(), (file.parent / name).resolve()} if isinstance(name, str) else None
    )
    if own is None or file.parent.resolve() in own:
        raise BundleError(f"{file} does not name the model of the solution; evaluate it again with --save")
    inner = file.parent / name
    return str(inner) if not name.startswith(PREFIX) and inner.exists() else str(name)


def package_model(name: str) -> Path:
    """The only bundle or GGUF file in the installed package `name`, whose code is not run."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise BundleError(
            f"{name!r} is not the name of a package; write {PREFIX}NAME, with the name that pip uses"
        )
    files = list(islice(_files(name), MAX_FILES))
    configs = {file for file in files if file.name == CONFIG}
    found = {file.parent for file in files if file.name == WEIGHTS and file.with_name(CONFIG) in configs}
    found |= {file for file in files if file.suffix == ".gguf"}
    found = {path for path in found if path.exists()}
    if not found:
        raise BundleError(
            f"the package {name} contains no model: no .gguf file, no {CONFIG} beside a {WEIGHTS}; name a "
            "package that does"
        )
    if len(found) > 1:
        paths = sorted(map(str, found))
        raise BundleError(
            f"the package {name} contains {len(found)} models; give the path of one: {paths[0]}"
        )
    return found.pop()


def _files(name: str) -> Iterator[Path]:
    """All files of a package: the installer's list, else those in its folder."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        installed = None
    listed = (installed.files or []) if installed else []
    paths = [Path(str(file.locate())).resolve() for file in listed]
    if any(path.name == WEIGHTS or path.suffix == ".gguf" for path in paths):
        yield from paths
        return
    # Not listed, or an editable install: search where Python would import it from. For a name without a
    # dot, finding does not run the package.
    module = re.sub(r"[.-]", "_", name)
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None and installed is None:
        raise BundleError(f"the package {name} is not installed; install it with pip, or check the name")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (path for path in Path(folder).resolve().rglob("*") if path.is_file())
