"""`seedbed chat`: through a pipe, and at a terminal of 80 and of 40 columns."""

import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len

from seedbed.generation.loading import load
from seedbed.hub.bundle import save_bundle
from seedbed.models.network import build, family
from seedbed.nn.config import ModelConfig
from seedbed.text.special_form import decoder_form
from seedbed.text.tokenizer import END_OF_TEXT, Tokenizer
from seedbed.text.training import train_tokenizer

TEMPLATE = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
TEMPLATE += "{{ m.role[0] + m.content + '<|im_end|>' }}{% endfor %}a"


CUT = r"[^\n]*\bcut\b[^\n]*\b8 tokens\b[^\n]*/set max_new_tokens\b[^\n]*\n"


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A bundle of a family, with random weights and a chat template."""

    def make(kind: str) -> Path:
        config = replace(family(kind).sized(32, 1), vocab_size=258)
        if isinstance(config, ModelConfig):
            config = replace(config, max_positions=64)
        module, generator = build(config), torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=0.1, generator=generator)
        made = train_tokenizer(
            ["text"], "bytes", vocab_size=258, special=decoder_form(END_OF_TEXT, "<|im_end|>")
        )
        tokenizer = Tokenizer(made._core, made.config | {"chat_template": TEMPLATE})
        folder = tmp_path_factory.mktemp("talk") / kind
        return save_bundle(folder, module, tokenizer)

    folders: dict[str, Path] = {}
    return lambda kind: folders.setdefault(kind, folders.get(kind) or make(kind))


@pytest.fixture
def say(seedbed: Callable, talker: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Send lines through a pipe to a model with a context of 64 tokens."""

    def send(text: str, *arguments: object, flags: tuple[object, ...] = ("--temperature", 1)) -> Any:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return seedbed("chat", talker("gpt2"), "--max-new-tokens", 8, "--seed", 1, *flags, *arguments)

    return send


def test_each_line_of_a_pipe_is_a_message(say: Callable, talker: Callable) -> None:
    said = say("hello\n\n//not a command\n", "--json", "--system", "S")
    messages = said.json["messages"]
    assert re.fullmatch(2 * CUT, said.err)
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 2]
    assert [m["content"] for m in messages[1::2]] == ["hello", "/not a command"]
    lm = load(talker("gpt2"))
    for end in (2, 4):
        assert lm.chat(messages[:end], 8, seed=1, temperature=1).text == messages[end]["content"]
    plain = say("hello\n\n//not a command\n", "--system", "S")
    assert plain.out == "".join(m["content"] + "\n" for m in messages[2::2])


def test_a_conversation_is_saved_and_resumed(say: Callable, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    said = say(f"one\n/save {file}\ntwo\n/save {file}\n", "--system", "S")
    assert said.code == 0, said.err
    saved = json.loads(file.read_text())
    assert [m["content"] for m in saved][0:4:1][:2] == ["S", "one"] and len(saved) == 5
    again = say("three\n", "--load", file, "--json").json["messages"]
    assert again[:5] == saved and len(again) == 7
    other = say("three\n", "--load", file, "--json", "--system", "T").json["messages"]
    assert [m["content"] for m in other[:2]] == ["T", "one"] and len(other) == 7
    refused = say(f"four\n/save {file}\n")
    assert refused.code == 2 and "exists" in refused.err and json.loads(file.read_text()) == saved


def test_commands_change_what_follows(say: Callable) -> None:
    said = say(
        "one\n/set temperature 0\n/set max_new_tokens=3\n/set\n/reset\ntwo\n", "--json", "--system", "S"
    )
    system, two, answer = said.json["messages"]
    assert system["content"] == "S" and two["content"] == "two" and len(answer["content"]) <= 3
    now = {"max_new_tokens": "3", "temperature": "0", "top_k": "none", "top_p": "none", "min_p": "none"}
    now |= {"repetition_penalty": "none", "no_repeat_ngram_size": "none", "seed": "1"}
    for name, value in now.items():
        assert re.search(rf"\b{name}\W+{re.escape(value)}(?![\w.])", said.err), said.err
    assert say("/help\n/exit\nnever read\n", "--json").json["messages"] == []


def test_turns_that_leave_the_context_are_reported(say: Callable) -> None:
    said = say("one one one one\ntwo two two two\nthree three three\nfour\n")
    assert said.code == 0 and len(said.out.splitlines()) >= 4
    assert re.search(r"(oldest turn|\b[2-9] turns) .*\bcontext of 64\b", said.err)


def test_a_cut_answer_says_why(say: Callable, talker: Callable) -> None:
    assert re.fullmatch(CUT, say("hello\n").err)
    full = say("/set max_new_tokens 1000\nhello\n", "--top-k", 1)
    (note,) = full.err.splitlines()[1:]
    assert re.search(r"\bcontext of 64 tokens\b.*full.*/reset\b", note) and "/set" not in note
    ended = say("hello\n", "--temperature", 0, "--max-new-tokens", 1)
    assert re.search(r"\bcut\b.*\b1 token\b.*/set max_new_tokens\b", ended.err) and "full" not in ended.err
    eos = load(talker("gpt2")).chat([{"role": "user", "content": "hello"}], 1, temperature=0).token_ids
    file = talker("gpt2") / "generation_config.json"
    before = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(before) | {"eos_token_id": eos}))
        assert say("hello\n", "--temperature", 0).err == ""
    finally:
        file.write_text(before)


def test_a_bundles_own_settings_are_reported(say: Callable, talker: Callable) -> None:
    file = talker("gpt2") / "generation_config.json"
    before = file.read_text()
    own = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "num_beams": 1, "repetition_penalty": 1.05}
    try:
        file.write_text(json.dumps(json.loads(before) | own))
        said = say("", "--top-p", 1, "--json", flags=())
        shown = say("/set\n/set temperature 0.5\n/set temperature none\n", flags=())
    finally:
        file.write_text(before)
    (note,) = said.err.splitlines()
    assert "as the model's files say" in note
    _, whole, *values = shown.err.splitlines()
    assert "temperature 0.7 (not set), top_k none, top_p 0.8 (not set)" in whole
    assert values == ["temperature 0.5", "temperature 0.7 (not set)"]
    # Without the settings that have flags here, and those that chat does not have.
    flags = re.findall(r"--([\w-]+) (\d+(?:\.\d+)?)", note)
    assert sorted(flags) == [("repetition-penalty", "1.05"), ("temperature", "0.7")]
    assert note.count("--") == 2


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("/sav x", ["no command /sav", "did you mean '/save'", "//"]),
        ("/set temprature 1", ["'temprature'", "did you mean 'temperature'"]),
        ("/set temperature hot", ["/set temperature hot", "a number"]),
        ("/set temperature -1", ["temperature=-1", "give 0"]),
        ("/set top_k 2.5", ["top_k=2.5", "whole number"]),
        ("/set min_p 2", ["min_p=2", "from 0 to 1"]),
        ("/set repetition_penalty 0", ["repetition_penalty=0", "1 changes nothing"]),
        ("/set max_new_tokens none", ["/set max_new_tokens none", "give a number"]),
        ("/set num_samples 2", ["'num_samples'", "allowed: "]),
        ("/set length_penalty 2", ["length_penalty=2", "num_beams"]),
        ("/save", ["/save FILE"]),
        ("/save /proc/nothing/here.json", ["cannot write"]),
        ("x" * 99, ["have 102 tokens, but 56 fit beside 8", "shorten"]),
        ("a\ufdd0", ["U+FDD0"]),
    ],
)
def test_a_wrong_command_is_one_line(line: str, parts: list[str], say: Callable) -> None:
    said = say(f"{line}\n")
    assert said.code in (1, 2) and said.err.count("\n") == 1 and said.out == ""
    assert not [part for part in parts if part not in said.err], said.err


def test_a_file_that_is_not_a_conversation_is_one_line(say: Callable, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    for content, part in (
        ("{", "not JSON"),
        ('{"a": 1}', "no list of messages"),
        ("[1]", "no list of messages"),
        ('[{"role": "user"}]', "message 0"),
        ('[{"role": "tool", "content": "x"}]', "refuses these messages: no tools"),
    ):
        file.write_text(content)
        said = say("hello\n", "--load", file)
        assert said.code == 2 and part in said.err and said.err.count("\n") == 1, said
    assert "No such file" in say("hello\n", "--load", tmp_path / "absent").err


def test_a_model_without_a_template_says_so(seedbed: Callable, tiny_run: Path) -> None:
    said = seedbed("chat", tiny_run)
    assert said.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert "no chat template" in said.err and "`generate` completes text" in said.err


def test_a_template_that_fails_says_so_before_anyone_types(
    seedbed: Callable, talker: Callable, tmp_path: Path
) -> None:
    folder = talker("gpt2")
    template = folder / "chat_template.jinja"
    before = template.read_text()
    try:
        for source in ("{{ messages.__class__ }}", "{% for i in range(10**9) %}{% endfor %}"):
            template.write_text(source)
            said = seedbed("chat", folder)
            assert said.code == 1 and said.err.count("\n") == 1 and "chat template" in said.err
    finally:
        template.write_text(before)


# ---- at a terminal


class Terminal:
    """The user's side of a terminal: types text and records what is shown."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._raw, self.shown = b"", ""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def until(self, pattern: str) -> str:
        """Read until new text matches, and return the text since the last match."""
        while (found := re.search(pattern, self.shown[self._seen :])) is None:
            assert select.select([self._file], [], [], 30)[0], f"no {pattern!r} in {self.shown!r}"
            try:
                self._raw += os.read(self._file, 4096)
            except OSError as error:  # the program has ended
                raise AssertionError(f"no {pattern!r} in {self.shown[self._seen :]!r}") from error
            text = self._raw.decode(errors="replace").replace("\r\n", "\n")
            self.shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
        start, self._seen = self._seen, self._seen + found.end()
        return self.shown[start : self._seen]


@contextmanager
def terminal(command: list[str], columns: int) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """Run a command in a terminal of its own."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    program = [sys.executable, "-c", "import os, sys, fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
               "from seedbed.cli.app import main; main()", *command]  # fmt: skip
    process = subprocess.Popen(
        program, stdin=there, stdout=there, stderr=there, start_new_session=True,
        env=variables | {"TERM": "xterm", "INPUTRC": "/dev/null"},
    )  # fmt: skip
    os.close(there)
    try:
        yield Terminal(here), process
    finally:
        process.kill()
        process.wait()
        os.close(here)


@pytest.mark.parametrize("columns", [80, 40])
def test_a_conversation_at_a_terminal(columns: int, talker: Callable, tmp_path: Path) -> None:
    """Streaming, Ctrl-C in an answer and at the prompt, a wrong command, saving."""
    file = tmp_path / "t.json"
    command = ["chat", str(talker("lstm")), "--seed", "1", "--max-new-tokens", "40", "--temperature", "1"]
    with terminal(command, columns) as (screen, process):
        screen.until(r"Ctrl-D\s+to\s+quit[.]")
        screen.until("> ")
        screen.type("hello\n")
        answer = screen.until(r"\n\n.*> ").removeprefix("hello\n")
        assert max(map(cell_len, answer.split("\n"))) <= columns
        screen.type("/rest\n")
        assert "did you mean '/reset'" in " ".join(screen.until("> $").split())
        screen.type("/set max_new_tokens 1000000\n")
        screen.until("1000000\n.*> ")
        screen.type("more\n")
        screen.until(r"more\n(.*\n){3}")
        screen.type("\x03")
        screen.until(r"\(stopped;[^)]*\)\n\n.*> ")
        screen.type(f"/save {file}\n")
        screen.until("resume")
        screen.until("> ")
        screen.type("\x03" if columns == 80 else "\x04")
        assert process.wait(timeout=60) == 0
    messages = json.loads(file.read_text())
    assert [m["content"] for m in messages[::2]] == ["hello", "more"]
    assert len(messages[3]["content"]) > len(messages[1]["content"])
    assert "Traceback" not in screen.shown


def test_a_wrong_command_in_a_pipe_ends_nothing(say: Callable, tmp_path: Path) -> None:
    """The questions behind it and /save were lost."""
    file = tmp_path / "talk.json"
    said = say(f"abc\n/temperature 0\n/set top_p 7\nabd\n/save {file}\n")
    assert said.code == 2 and len(json.loads(file.read_text())) == 4
    assert [line.partition(";")[0] for line in said.err.splitlines() if line.startswith("seedbed: ")] == [
        "seedbed: no command /temperature",
        "seedbed: top_p=7 is not allowed: give a probability from 0 to 1, or leave it out",
    ]
