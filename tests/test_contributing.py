"""The examples of CONTRIBUTING.md work as they are written: they are tested in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.evaluation.task import TaskSettings

ROOT = Path(__file__).parents[1]
EXAMPLES = re.findall(
    r"^`((?:src|tests)/\S+\.py)`:\n\n```python\n(.*?)^```$",
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


# Families without which the contract of an objective takes 6 s here instead of 22.
MORE = "seedling or qwen or palm or opt or mistral or gru or bloom or gemma or llama"
# The contract of a way to adapt, with gpt, gpt2 and bert alone.
FEWER = f"{MORE} or bart or t5 or lstm or roberta or transformer or narrow or labels"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources and the tests, with the examples in their places."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for path, text in EXAMPLES:
        assert not (ROOT / path).exists(), path
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_text(text, encoding="utf-8")
    return tree


def test_there_are_examples_of_each_plug_in_and_a_setting() -> None:
    assert [Path(path).name for path, _ in EXAMPLES] == [
        *("prefix_lm.py", "test_prefix_lm.py"),
        *("sgd.py", "test_sgd.py"),
        *("vera.py", "test_vera.py"),
        *("correct.py", "test_correct.py"),
        "test_epsilon_cutoff.py",
    ]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("tests/objectives", f"prefix_lm and not ({MORE})"),
        ("tests/training/optimizers", "sgd"),
        ("tests/peft", f"vera and not ({FEWER})"),
        ("tests/evaluation", "correct"),
    ],
)
def test_an_example_passes_its_contract(folder: str, name: str, tree: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder, "-k", name],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": f"{tree / 'src'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 5


def test_the_task_in_a_file_is_one(tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^`reviews.toml`:\n\n```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "reviews.toml").write_text(found, encoding="utf-8")
    settings = TaskSettings.of(tmp_path / "reviews.toml")
    assert settings.title == "film reviews" and settings.metrics == ("macro_f1", "accuracy")
    assert settings.words == {"0": "negative", "1": "positive"}
