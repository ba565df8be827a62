"""Standard input and output of any encoding, closed, or a terminal that a text could command."""

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOW = ["--max-new-tokens", "2", "--seed", "1", "--temperature", "1"]


def run(*arguments: object, shell: str = "", given: bytes = b"", **environment: str) -> Any:
    """Run the command line in a process of its own, with redirections of a shell."""
    command = [sys.executable, "-m", "seedbed", *map(str, arguments)]
    if shell:
        command = ["bash", "-c", f'exec "$@" {shell}', "bash", *command]
    return subprocess.run(
        command, input=given, capture_output=True, env=os.environ | environment, check=False, timeout=120
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii:strict", "utf-8"])
def test_output_is_utf_8_whatever_the_locale_says(encoding: str, tiny_run: Path) -> None:
    prompt = "漢字 🌱 ü"
    done = run("generate", tiny_run, prompt, *HOW, "--json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode())["completions"][0]["prompt"] == prompt
    wrong = run("generate", "漢字", "x", PYTHONIOENCODING=encoding)
    assert wrong.returncode == 1 and "漢字" in wrong.stderr.decode() and wrong.stderr.count(b"\n") == 1


@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(shell: str, tiny_run: Path) -> None:
    done = run("generate", tiny_run, "Note", *HOW, shell=shell)
    assert done.returncode == 0 and b"Traceback" not in done.stdout + done.stderr
    assert (b"Note" in done.stdout) == (">&-" not in shell.replace("2>&-", ""))


@pytest.mark.parametrize("shell", ["2>/dev/full", "2</dev/null"])
def test_a_note_that_cannot_be_written_costs_no_answer(shell: str, tiny_run: Path) -> None:
    done = run("generate", tiny_run, "Note", "--max-new-tokens", "2", shell=shell)
    assert done.returncode == 0 and b"Note" in done.stdout


def test_an_output_that_is_full_is_named(tiny_run: Path) -> None:
    done = run("generate", tiny_run, "Note", *HOW, shell=">/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == b"seedbed: the output cannot be written: No space left on device"


@pytest.mark.parametrize("verb", ["generate", "chat"])
def test_input_that_is_not_utf_8_is_one_line(verb: str, tiny_run: Path, tmp_path: Path) -> None:
    for encoding in ("utf-8:strict", "utf-8:surrogateescape"):
        place = tiny_run if verb == "generate" else with_template(tiny_run, tmp_path / encoding)
        done = run(verb, place, *HOW, given=b"caf\xe9\n", PYTHONIOENCODING=encoding)
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1, done.stderr
        assert b"the input is not UTF-8" in done.stderr


def with_template(run_folder: Path, folder: Path) -> Path:
    """A copy of a run's model with a chat template."""
    folder.mkdir()
    for file in (run_folder / "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    return folder


def test_marks_of_editors_and_systems_do_not_reach_the_model(tiny_run: Path, tmp_path: Path) -> None:
    given = b"\xef\xbb\xbfNote\r\none\r\n"
    done = run("generate", tiny_run, *HOW, "--json", given=given)
    assert json.loads(done.stdout)["completions"][0]["prompt"] == "Note\none"
    done = run("chat", with_template(tiny_run, tmp_path / "talk"), *HOW, "--json", given=given)
    messages = json.loads(done.stdout)["messages"]
    assert [one["content"] for one in messages[::2]] == ["Note", "one"]


class Screen:
    """A process on a terminal of its own, and what it shows."""

    def __init__(self, *arguments: object) -> None:
        self._file, child = pty.openpty()
        command = [sys.executable, "-m", "seedbed", *map(str, arguments)]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment)
        os.close(child)
        self.shown = b""

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._file, text.encode())

    def until(self, text: bytes) -> None:
        """Read until the process shows a text."""
        while text not in self.shown:
            assert select.select([self._file], [], [], 60)[0], self.shown
            self.shown += os.read(self._file, 4096)

    def end(self) -> None:
        """Read to the end."""
        while True:
            try:
                self.shown += os.read(self._file, 4096)
            except OSError:
                break
        self.process.wait(60)
        os.close(self._file)


COMMAND = "\x1b]52;c;x\x07"  # writes to the clipboard of a terminal


def test_a_terminal_gets_no_command_from_a_name_and_a_pipe_gets_it_as_it_is() -> None:
    screen = Screen("generate", f"no{COMMAND}where", "x")
    screen.end()
    assert b"\x1b]52" not in screen.shown and "no\ufffd]52".encode() in screen.shown
    done = run("generate", f"no{COMMAND}where", "x")
    assert COMMAND.encode() in done.stderr


def test_a_terminal_gets_no_command_from_a_prompt_or_a_template(tiny_run: Path, tmp_path: Path) -> None:
    screen = Screen("generate", tiny_run, f"N{COMMAND}", *HOW)
    screen.end()
    assert b"\x1b]52" not in screen.shown and "N\ufffd]52".encode() in screen.shown
    assert COMMAND.encode() in run("generate", tiny_run, f"N{COMMAND}", *HOW).stdout
    folder = with_template(tiny_run, tmp_path / "talk")
    (folder / "chat_template.jinja").write_text(f"{{{{ raise_exception('a{COMMAND}') }}}}")
    screen = Screen("chat", folder)
    screen.end()
    assert b"\x1b]52" not in screen.shown and b"refuses these messages" in screen.shown


def test_a_paste_of_several_lines_is_one_message(tiny_run: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    screen = Screen("chat", with_template(tiny_run, tmp_path / "talk"), *HOW)
    screen.until(b"> ")
    screen.type("\x1b[200~one\ntwo\x1b[201~\n")
    screen.until(b"cut off")  # the answer
    screen.type(f"/save {saved}\n")
    screen.until(b"resume")
    screen.type("/exit\n")
    screen.end()
    messages = json.loads(saved.read_text())
    assert [one["content"] for one in messages[::2]] == ["one\ntwo"]
