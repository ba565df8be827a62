"""seedbed grows a language model from an idea to an application, and says what each step costs beforehand.

The public names load on first use, so that `import seedbed` is instant and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedbed.api.plan import plan
    from seedbed.generation.language_model import Completion, LanguageModel
    from seedbed.generation.loading import load, new

__version__ = "0.1.0"
__all__ = ["Completion", "LanguageModel", "__version__", "load", "new", "plan"]

_HOMES = {
    "Completion": "seedbed.generation.language_model",
    "LanguageModel": "seedbed.generation.language_model",
    "load": "seedbed.generation.loading",
    "new": "seedbed.generation.loading",
    "plan": "seedbed.api.plan",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use, and keep it."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'seedbed' has no attribute {name!r}; its public names: {', '.join(__all__)}"
        )
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, the ones not yet loaded included."""
    return sorted(__all__)
