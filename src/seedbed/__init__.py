"""seedbed trains, runs and inspects language models, and predicts the cost of a run before it starts.

The public names load on first use, so that `import seedbed` is instant and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedbed.api.evaluate import evaluate
    from seedbed.api.plan import plan
    from seedbed.api.predict import solution
    from seedbed.api.tune import train
    from seedbed.generation.language_model import Completion, LanguageModel
    from seedbed.generation.loading import load, new

__version__ = "0.1.0"
__all__ = [
    "Completion",
    "LanguageModel",
    "__version__",
    "evaluate",
    "load",
    "new",
    "plan",
    "solution",
    "train",
]

_MODULES = {
    "Completion": "seedbed.generation.language_model",
    "LanguageModel": "seedbed.generation.language_model",
    "evaluate": "seedbed.api.evaluate",
    "load": "seedbed.generation.loading",
    "new": "seedbed.generation.loading",
    "plan": "seedbed.api.plan",
    "solution": "seedbed.api.predict",
    "train": "seedbed.api.tune",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use, and cache it."""
    if name not in _MODULES:
        raise AttributeError(
            f"module 'seedbed' has no attribute {name!r}; its public names: {', '.join(__all__)}"
        )
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
