"""What all verbs share: help, one-line errors, exit codes, quiet ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from seedbed import __version__
from seedbed.cli.app import VERBS, app
from seedbed.cli.options import parse_seconds


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json_and_fits_60_columns(
    verb: str, seedbed: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    said = seedbed(verb, "--help")
    assert said.code == 0
    assert "--json" in said.out
    assert max(map(len, said.out.splitlines())) <= 60
    command: Any = get_command(app)
    help_texts = [(VERBS[verb].__doc__ or "").split("\n")[0]]
    help_texts += [each.help for each in command.commands[verb].params]
    shown = " ".join(said.out.split())
    assert not [text for text in help_texts if " ".join(text.split()) not in shown]


@pytest.mark.parametrize("columns", [60, 100])
def test_the_list_of_verbs_has_a_line_for_each_and_the_exit_codes(
    columns: int, seedbed: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = seedbed("--help")
    assert said.code == 0
    assert all(re.search(rf"^  {verb} ", said.out, re.MULTILINE) for verb in VERBS)
    assert max(map(len, said.out.splitlines())) <= columns and "..." not in said.out.split("Options:")[1]
    assert "75 stopped early" in " ".join(said.out.split())
    assert seedbed() == (2, "", said.out)  # without a verb, as click does it
    assert seedbed("--version").out == f"seedbed {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["genrate", "x"], 2, ["genrate", "generate"]),
        (["generate", "m", "p", "--temprature", "1"], 2, ["--temprature; did you mean --temperature?"]),
        (["generate", "m", "p", "--top-k", "many"], 2, ["value for --top-k: not a valid integer; see"]),
        (["pretrain"], 2, ["missing argument data; see seedbed pretrain --help"]),
        (["demo", "--budget", "3q"], 2, ["'3q' is not a duration", "10m"]),
        (["demo", "--budget", "1s", "--out", "nowhere"], 2, ["too short"]),
        (["generate", "absent", "p"], 1, ["absent"]),
        (["generate", "absent", "p", "--logprobs", "2"], 2, ["--json"]),
        (["plan", "gtp2"], 2, ["gtp2", "gpt2"]),
        (["plan", "gpt2:125m"], 2, ["125m", "124m"]),
        (["report", "absent"], 2, ["absent"]),
        (["doctor", "absent"], 2, ["absent"]),
        (["tokenizer", "builtin:prose"], 2, ["--out"]),
        (["tokenizer", "text", "--inspect", "absent"], 1, ["absent"]),
        (["pretrain", "absent.txt", "--out", "run"], 1, ["absent.txt"]),
        (["pretrain", "builtin:prose", "--out", "run", "--recipe", "slow"], 2, ["slow", "fast"]),
        (["pretrain", "builtin:prose", "--out", "run", "--family", "gpt3"], 2, ["gpt3", "gpt2"]),
        (["pretrain", "builtin:prose", "--out", "run", "--objective", "maskd"], 2, ["maskd", "causal"]),
        (["pretrain", "builtin:prose", "--out", "run", "--settings", "no.toml"], 2, ["no.toml"]),
        (["pretrain", "builtin:prose", "--out", "run", "--set", "training.steps=3"], 2, ["num_steps"]),
        (
            ["pretrain", "builtin:prose", "--out", "run", "--set", "training.num_steps=x"],
            2,
            ["a whole number"],
        ),
        (["pretrain", "builtin:prose", "--out", "run", "--steps", "3", "--budget", "9s"], 2, ["--budget"]),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    arguments: list[str],
    code: int,
    parts: list[str],
    seedbed: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = seedbed(*arguments)
    assert said.code == code, said.err
    assert said.out == "" and said.err.splitlines()[-1:] == said.errors
    assert any(part in said.err for part in parts[:1]) and parts[-1] in said.err, said.err


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["empty.txt"]),
        (b"caf\xe9 au lait\n", ["UTF-8", "3"]),
    ],
)
def test_a_corpus_that_cannot_be_read_is_named(
    content: bytes, parts: list[str], seedbed: Callable, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_bytes(content)
    said = seedbed("pretrain", tmp_path / "empty.txt", "--out", tmp_path / "run")
    assert said.code == 1 and said.err.splitlines()[-1:] == said.errors
    assert all(part in said.err for part in ["empty.txt", *parts]), said.err


def test_a_path_that_cannot_be_written_is_one_line(seedbed: Callable, corpus: Path) -> None:
    said = seedbed("tokenizer", corpus, "--vocab-size", 300, "--out", corpus / "inside")
    assert said.code == 1
    assert len(said.errors) == 1 and "inside" in said.err


def test_a_reader_that_goes_away_leaves_no_traceback(tiny_run: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "seedbed",
        "generate",
        str(tiny_run),
        "Note",
        "--max-new-tokens",
        "9",
        "--temperature",
        "1",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert errors == ""


def test_ctrl_c_while_the_command_line_is_imported_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, time; os.kill(os.getpid(), 2); time.sleep(9)")
    ended = subprocess.run(
        [sys.executable, "-m", "seedbed", "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert (ended.returncode, ended.stderr) == (130, "")


def test_ctrl_c_while_a_prompt_is_read_ends_quietly() -> None:
    """130 is a shell's code for a program that Ctrl-C ended; 75 means that the work was saved."""
    code = (
        "import os, signal, threading; threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
    )
    code += (
        "from seedbed.cli.app import main; import sys; sys.argv = ['seedbed', 'generate', 'absent']; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stderr is not None
    assert process.wait() == 128 + signal.SIGINT
    assert process.stderr.read() == ""
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize(
    ("library", "code"),
    [
        ("try: os.kill(os.getpid(), 2)\nexcept KeyboardInterrupt: pass", 130),
        ("raise ImportError('half a library')", 1),
    ],
)
def test_ctrl_c_while_a_library_loads_ends_quietly(library: str, code: int, tmp_path: Path) -> None:
    """torch swallows an interrupt of numpy's import; any other error of a library is still shown."""
    (tmp_path / "library.py").write_text(f"import os\n{library}\n")
    program = "import sys; from seedbed.cli import app; sys.path.insert(0, sys.argv[1])\n"
    program += "def load(arguments, **_): import library; return 0\napp.run = load; app.main()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("half a library" in done.stderr) == (code == 1) and bool(done.stderr) == (code == 1)


def test_ctrl_c_that_a_library_turns_into_its_own_error_ends_quietly() -> None:
    program = "import os; from seedbed.cli import app\ndef work(arguments, **_):\n"
    program += "    try: os.kill(os.getpid(), 2)\n    except KeyboardInterrupt: raise RuntimeError('cut')\n"
    program += "app.run = work; app.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGINT and done.stderr == ""


def test_a_second_ctrl_c_after_the_work_was_saved_changes_nothing() -> None:
    """It ended with 130 where the first had saved and would end with 75."""
    program = "import os; from seedbed.cli import app; from seedbed.base.signals import StopSignals\n"
    program += "def work(arguments, **_):\n    try:\n        with StopSignals(): os.kill(os.getpid(), 2)\n"
    program += "    except Exception as error: print(error)\n"
    program += "    os.kill(os.getpid(), 2); return 75\napp.run = work; app.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (75, "") and "stopped by SIGINT" in done.stdout


def test_memory_that_runs_out_is_one_line() -> None:
    program = "import sys, torch; from seedbed.cli import app, doctor\n"
    program += "def work(*a, **k): {}\napp.app = work; sys.exit(app.run(['doctor']))"
    for act in ("bytearray(1 << 60)", "torch.empty(1 << 55)"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(act)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and done.stderr.startswith("seedbed: memory ran out")
        assert done.stderr.count("\n") == 1 and "ulimit -v" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2min", 120), ("0.5h", 1800), (" 3 s ", 3)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds
