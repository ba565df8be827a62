"""The command line as a user runs it, in this process; and one tiny run for all tests."""

import contextlib
import io
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.task_models import HEADS, decoder, encoder_decoder, headed, saved

from seedbed.cli.app import run

TINY = [
    "tokenizer.vocab_size=300",
    "model.d_model=16",
    "model.num_layers=1",
    "training.context_tokens=16",
    "training.batch_tokens=64",
    "training.warmup_steps=2",
    "training.evaluate_every_steps=10",
    "training.checkpoint_every_steps=10",
    "training.precision=float32",
]


ROWS = [{"text": f"a seed {n} of rain", "label": n % 2} for n in range(40)]
POOL = [{"text": f"leaf {n}", "label": n % 2} for n in range(12)] + ROWS[:3]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # as in this process: sums have the same order
LABELLED = ["--task", "classify", "--labels", "0=bad,1=good"]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


class Said(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of errors; others say what is being read or measured."""
        return [line for line in self.err.splitlines() if line.startswith("seedbed: ")]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def seedbed(*arguments: object) -> Said:
    """Run one command and capture its output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(name="seedbed", scope="session")
def command() -> Callable[..., Said]:
    return seedbed


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty short documents."""
    path = tmp_path_factory.mktemp("corpus") / "notes.jsonl"
    texts = [f"Note {n}: the seed number {n} grows {n % 7} leaves and {n % 3} roots." for n in range(60)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="session")
def pretrain_command(corpus: Path) -> Callable[[Path], list[str]]:
    """Return the arguments of a tiny pre-training into a folder."""
    settings = [part for setting in TINY for part in ("--set", setting)]
    return lambda out: [
        "pretrain",
        str(corpus),
        "--family",
        "gpt2",
        "--steps",
        "20",
        "--out",
        str(out),
        *settings,
    ]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, pretrain_command: Callable[[Path], list[str]]) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    said = seedbed(*pretrain_command(folder))
    assert said.code == 0, said.err
    return folder


@pytest.fixture(scope="session")
def task_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {"decoder": decoder(), "chat": decoder(400, chat=True), "bart": encoder_decoder()}
    made |= {kind: headed(kind) for kind in HEADS} | {"small": decoder(context=24)}
    return {name: saved(lm, folder / name) for name, lm in made.items()}


@pytest.fixture(scope="session")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "tested.jsonl", ROWS)


@pytest.fixture(scope="session")
def pool(tested: Path) -> Path:
    return write(tested.with_name("pool.jsonl"), POOL)


def stopped(command: Sequence[str], part: Path) -> bytes:
    """Send SIGTERM to a command once it has written a part -> what it kept; it ends with 75 and says so."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD) as process:
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 75 and "the chunks of records that were finished are saved" in said, said
    return part.read_bytes()
