"""Where a model is: a folder, a GGUF file, an installed package, one on the hub."""

from __future__ import annotations

from pathlib import Path

from seedbed.base.errors import BundleError
from seedbed.hub.download import download, is_hub_name
from seedbed.hub.package import PREFIX, package_model
from seedbed.hub.weight_files import CONFIG


def is_model(model: str | Path) -> bool:
    """Tell whether a name is of a model that lies somewhere: a path, `package:NAME`, a name on the hub."""
    name = str(model)
    return name.startswith(PREFIX) or Path(model).expanduser().exists() or is_hub_name(name)


def locate(model: str | Path, *, weights: bool = True, allow_pickle: bool = False) -> Path:
    """Where a model lies: the folder that holds `config.json`, or a GGUF file.

    It is the path named, `model` in a run's folder, the one `.gguf` file of a folder without a config, what
    an installed package carries, or where the hub's model was downloaded to: without `weights` its config
    and tokenizer alone, pickles only if they are allowed.
    """
    if str(model).startswith(PREFIX):
        return package_model(str(model).removeprefix(PREFIX))
    path = Path(model).expanduser()
    if not path.exists() and is_hub_name(str(model)):
        return download(str(model), weights=weights, allow_pickle=allow_pickle)
    if not path.exists():
        raise BundleError(
            f"no model lies at {model}; give a bundle's or a run's folder, a .gguf file, package:NAME or "
            "org/name on the hub"
        )
    inner = path / "model"
    if not (path / CONFIG).exists() and inner.is_dir():
        return inner
    if not (path / CONFIG).exists() and (path / "settings.toml").exists():
        raise BundleError(f"the run in {path} has no model yet; run its command again to finish it")
    if path.is_dir() and not (path / CONFIG).exists():
        files = sorted(path.glob("*.gguf"))
        if len(files) > 1:
            raise BundleError(f"{path} holds {len(files)} models; give the path of one: {files[0]}")
        return files[0] if files else path
    return path
