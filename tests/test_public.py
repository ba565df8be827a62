"""The public names are those of DESIGN.md; importing them or printing a verb's help does not load torch."""

import subprocess
import sys
from pathlib import Path

import pytest

import seedbed
from seedbed.cli.app import VERBS

PACKAGES = {path.name for path in Path(seedbed.__file__).parent.iterdir() if path.is_dir()}
HEAVY = ("torch", "numpy", "tokenizers", "transformers", "pydantic", "safetensors")
# typer 0.29 itself loads pydantic for a command with options; the help still takes 0.2 s (2026-11-24).
OURS = tuple(name for name in HEAVY if name != "pydantic")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with none of the modules of this one."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def test_public_names_are_exact() -> None:
    assert sorted(seedbed.__all__) == [
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
    assert dir(seedbed) == sorted(seedbed.__all__)


@pytest.mark.parametrize("name", seedbed.__all__)
def test_every_public_name_loads_and_is_documented(name: str) -> None:
    value = getattr(seedbed, name)
    assert isinstance(value, str) or value.__doc__
    assert name not in PACKAGES, "importing the package would hide the name"


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(AttributeError, match="LanguageModel"):
        seedbed.lode  # noqa: B018


def test_importing_seedbed_loads_nothing_heavy() -> None:
    loaded = run("-c", "import seedbed, sys; print([*sys.modules])").stdout
    assert not [name for name in HEAVY if f"'{name}'" in loaded]
    assert "'seedbed.api" not in loaded


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_loads_nothing_heavy(verb: str) -> None:
    code = (
        "import sys; from seedbed.cli.app import main\n"
        f"sys.argv = ['seedbed', *{verb.split()!r}, '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print('loaded', [name for name in {OURS!r} if name in sys.modules])"
    )
    assert run("-c", code).stdout.splitlines()[-1] == "loaded []"
