"""What the tests of training share."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module `tiny_training.py` beside this file."""
    spec = importlib.util.spec_from_file_location(
        "tiny_training", Path(__file__).with_name("tiny_training.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
