"""What the tests of the hub share."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module `tiny_gguf.py` beside this file."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", Path(__file__).with_name("tiny_gguf.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def write_gguf(tiny: ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """`write` of that module, in the test's folder."""
    return lambda module, *given, name="tiny.gguf", **how: tiny.write(tmp_path / name, module, *given, **how)
