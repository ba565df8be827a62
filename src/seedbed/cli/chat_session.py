"""The conversation of `seedbed chat`: messages, settings and commands, in a terminal or a pipe."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from seedbed.base.errors import ConfigError, SeedbedError, UsageError, nearest
from seedbed.base.files import write_file
from seedbed.cli.answers import is_context_full
from seedbed.cli.console import MAX_COLUMNS, print_facts, say, shown, stdin_lines
from seedbed.cli.wrapping import StreamWrap
from seedbed.generation.chat import HEAD_ROLES, Conversation
from seedbed.generation.language_model import LanguageModel, Stream
from seedbed.generation.settings import GenerationSettings, named_settings

PROMPT = "> "
# The settings that are numbers and have an effect here, with their defaults.
NUMBERS = {
    name: default
    for name, _, default in named_settings()
    if name not in ("logprobs", "stop", "eos_ids", "num_samples", "early_stopping")
}
HELP = {
    "/set KEY VALUE": f"change a setting: {', '.join(NUMBERS)}",
    "/set": "show all settings; /set KEY shows one",
    "/reset": "clear the conversation, keep the system prompt",
    "/save FILE": "save the messages as JSON; resume with --load FILE",
    "/help": "show this help",
    "/exit": "quit, as Ctrl-D does",
    "Ctrl-C": "stop an answer; at the prompt, quit",
    "//": "start a message that begins with /",
}
COMMANDS = ("/set", "/reset", "/save", "/help", "/exit")


class Session:
    """A conversation, its settings, and the commands that change them.

    It begins with a saved conversation, a system prompt, or both: the prompt then replaces the saved one.
    Errors: those of the template, and messages that it refuses, before the first message.
    """

    def __init__(
        self, lm: LanguageModel, settings: GenerationSettings, *, system: str | None, load: Path | None
    ) -> None:
        self.lm, self.settings = lm, settings
        self._own = load  # the file that this conversation may overwrite
        self.is_over = False
        messages = [] if load is None else read_messages(load)
        if system is not None:
            while messages and messages[0].get("role") in HEAD_ROLES:
                del messages[0]
            messages.insert(0, {"role": "system", "content": system})
        Conversation(lm, messages).prompt(".", max_new_tokens=settings.max_new_tokens)
        self.talk = Conversation(lm, messages)
        if load is not None:
            replaced = ", and --system replaces its system prompt" if system is not None else ""
            say(f"{len(messages)} messages from {load}{replaced}; settings are those of this command.")

    def message(self, line: str) -> str | None:
        """Return the message of a line; run it and return None if it is a command or blank."""
        if line.startswith("/") and not line.startswith("//"):
            self._command(line)
            return None
        return line.removeprefix("/") if line.strip() else None

    def answer(self, text: str) -> Stream:
        """Stream the answer to a message; `talk.add` appends both to the conversation."""
        before = self.talk.num_unseen
        ids = self.talk.prompt(text, max_new_tokens=self.settings.max_new_tokens)
        if (unseen := self.talk.num_unseen) > before:
            turns = "oldest turn is" if unseen == 1 else f"oldest {unseen} turns are"
            say(f"(the {turns} left out of the prompt to stay within the {self._context()})")
        how: dict[str, Any] = asdict(self.settings)
        return cast("Stream", self.lm.stream(ids, how.pop("max_new_tokens"), **how))  # of one answer

    def report_cut(self, stream: Stream) -> None:
        """Report that an answer was cut off, and the command that allows longer ones."""
        answer, limit = stream.completion, self.settings.max_new_tokens
        if answer is None or answer.finish_reason != "length":
            return
        if is_context_full(answer, limit):
            say(f"(cut off: the {self._context()} is full; /reset clears it)")
        else:
            say(f"(cut off after {limit} token{'s' * (limit > 1)}; /set max_new_tokens N allows more)")

    def _context(self) -> str:
        return f"context of {self.lm.config.max_positions} tokens"

    def _command(self, line: str) -> None:
        """Run a line that begins with a slash; UsageError for an unknown command or a wrong value."""
        name, _, rest = line.strip().partition(" ")
        match name:
            case "/set":
                self._set(rest.strip())
            case "/reset":
                self.talk.reset()
                say("Conversation cleared" + (", system prompt kept." if self.talk.messages else "."))
            case "/save":
                self._save(rest.strip())
            case "/help":
                print_facts("", HELP, stderr=True)
            case "/exit":
                self.is_over = True
            case _:
                near = nearest(name, COMMANDS)
                raise UsageError(f"no command {name}; {near}; to send a message that begins with /, type //")

    def _set(self, rest: str) -> None:
        key, _, text = rest.replace("=", " ", 1).partition(" ")
        if key and key not in NUMBERS:
            raise UsageError(f"/set: unknown setting {key!r}; {nearest(key, NUMBERS)}")
        before = self.lm.completed(self.settings)
        if text.strip():
            try:
                self.settings = replace(self.settings, **{key: _number(key, text.strip())})
            except ConfigError as error:
                raise UsageError(f"{error}; `/set NAME none` takes a setting back") from None
        used = self.lm.completed(self.settings)
        shown = []
        # A setting of sampling takes the default of top-p away.
        changed = [name for name in NUMBERS if name == key or getattr(before, name) != getattr(used, name)]
        for name in changed if key else NUMBERS:
            value = getattr(used, name)
            own = " (not set)" if getattr(self.settings, name) is None and value is not None else ""
            shown.append(f"{name} {'none' if value is None else value}{own}")
        say(", ".join(shown))

    def _save(self, rest: str) -> None:
        if not rest:
            raise UsageError("/save: no file; write /save FILE.json")
        path = Path(rest).expanduser()
        if path.exists() and path != self._own:
            raise UsageError(f"{path} exists and is not this conversation's file; choose another name")
        content = json.dumps(self.talk.messages, indent=2, ensure_ascii=False)
        write_file(path, f"{content}\n".encode())
        self._own = path
        say(f"Saved {len(self.talk.messages)} messages to {path}; resume with --load {path}.")


def run_in_pipe(session: Session, *, is_quiet: bool) -> int:
    """Answer each line of stdin -> the exit code; after a wrong command the conversation continues."""
    code = 0
    for line in stdin_lines():
        try:
            text = session.message(line.removesuffix("\n"))
        except UsageError as error:
            say(f"seedbed: {' '.join(str(error).split())}")
            code = error.exit_code
            continue
        if text is not None:
            chunks, stream = [], session.answer(text)
            for chunk in stream:
                chunks.append(chunk)
                print("" if is_quiet else shown(chunk), end="", flush=True)
            print(end="" if is_quiet else "\n", flush=True)
            session.report_cut(stream)
            session.talk.add(text, "".join(chunks))
        if session.is_over:
            break
    return code


def run_in_terminal(session: Session, model: str) -> None:
    """Read messages and answer them until the user quits; after an error the conversation continues."""
    with contextlib.suppress(ImportError):
        import readline  # line editing and history

        readline.parse_and_bind("set enable-bracketed-paste on")  # a paste of several lines is one message
    context = session.lm.config.max_positions
    size = "" if context is None else f", context of {context} tokens"
    say(f"{model}{size}. Type /help for commands, Ctrl-D to quit.")
    for line in _lines():
        try:
            if (text := session.message(line)) is not None:
                _show_answer(session, text)
        except SeedbedError as error:
            say(" ".join(str(error).split()))
        if session.is_over:
            return


def _lines() -> Iterator[str]:
    """Yield the lines that a user types, until Ctrl-D or Ctrl-C."""
    while True:
        try:
            line = input(PROMPT)
        except UnicodeDecodeError:
            continue  # typed in another encoding than the terminal's
        except (EOFError, KeyboardInterrupt):
            print()
            return
        yield line


def _show_answer(session: Session, text: str) -> None:
    """Stream an answer, wrapped between words; Ctrl-C stops it and keeps what was generated."""
    wrap = StreamWrap(min(shutil.get_terminal_size().columns, MAX_COLUMNS))
    chunks: list[str] = []
    is_stopped = False
    stream = session.answer(text)
    try:
        for chunk in stream:
            chunks.append(chunk)
            print(wrap.push(chunk), end="", flush=True)
    except KeyboardInterrupt:
        is_stopped = True
    answer = "".join(chunks)
    print(wrap.flush(), flush=True)
    if is_stopped:
        kept = "the partial answer stays in" if answer else "the message is removed from"
        say(f"(stopped; {kept} the conversation)")
    elif not answer:
        say("(empty answer)")
    session.report_cut(stream)
    if answer or not is_stopped:
        session.talk.add(text, answer)
    print()


def read_messages(path: Path) -> list[dict[str, Any]]:
    """Read the messages of a file that `/save` wrote, a JSON list; UsageError for any other file."""
    try:
        messages = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; give a file that /save wrote") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}); give a file that /save wrote") from None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise UsageError(f"{path} has no list of messages; give a file that /save wrote")
    return messages


def _number(key: str, text: str) -> Any:
    if text == "none" and NUMBERS[key] is None:
        return None
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    allowed = "a number, or none" if NUMBERS[key] is None else "a number"
    raise UsageError(f"/set {key} {text}: not a number; give {allowed}")
