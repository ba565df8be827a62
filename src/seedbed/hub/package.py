"""A model that an installed Python package carries, found without running the package's code."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path

from seedbed.base.errors import BundleError
from seedbed.hub.weight_files import CONFIG, WEIGHTS

PREFIX = "package:"
MAX_FILES = 100_000


def package_model(name: str) -> Path:
    """The folder or the GGUF file that the installed package `name` carries; `-` and `_` are the same.

    Errors: BundleError where no such package is installed, or where it carries no model or several.
    """
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise BundleError(f"{name!r} is no name of a package; write {PREFIX}NAME, as pip does")
    files = list(islice(_files(name), MAX_FILES))
    given = {file for file in files if file.name == CONFIG}
    found = {file.parent for file in files if file.name == WEIGHTS and file.with_name(CONFIG) in given}
    found |= {file for file in files if file.suffix == ".gguf"}
    found = {path for path in found if path.exists()}
    if not found:
        raise BundleError(
            f"the package {name} carries no model: no .gguf file, no {CONFIG} beside a {WEIGHTS}; name a "
            "package that does"
        )
    if len(found) > 1:
        paths = sorted(map(str, found))
        raise BundleError(f"the package {name} carries {len(found)} models; give the path of one: {paths[0]}")
    return found.pop()


def _files(name: str) -> Iterator[Path]:
    """All files of a package: those that its installer listed, else those in its folder."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        installed = None
    listed = (installed.files or []) if installed else []
    paths = [Path(str(file.locate())).resolve() for file in listed]
    if any(path.name == WEIGHTS or path.suffix == ".gguf" for path in paths):
        yield from paths
        return
    # Not listed, or installed in place: where Python would import it from. The finders do not run a package
    # for a name without a dot.
    module = re.sub(r"[.-]", "_", name)
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None and installed is None:
        raise BundleError(f"no package {name} is installed; install it with pip, or check the name")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (path for path in Path(folder).resolve().rglob("*") if path.is_file())
