"""What a user holds in `seedbed chat`: the conversation, its settings, and the commands that change them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from seedbed.base.errors import UsageError, nearest
from seedbed.base.files import write_file
from seedbed.cli.console import console, say
from seedbed.cli.notices import is_context_full
from seedbed.generation.chat import HEAD_ROLES, Conversation
from seedbed.generation.language_model import LanguageModel, Stream
from seedbed.generation.settings import GenerationSettings, named_settings

# The settings that are numbers and have an effect here, with their defaults.
NUMBERS = {
    name: default
    for name, setting, default in named_settings()
    if setting.is_streamed and name not in ("logprobs", "stop", "eos_ids")
}
HELP = {
    "/set KEY VALUE": ", ".join(NUMBERS),
    "/reset": "forget the turns, keep the system prompt",
    "/save FILE": "write the messages as JSON; --load FILE resumes",
    "/help": "these lines",
    "/exit": "leave, as Ctrl-D does",
    "Ctrl-C": "end an answer; at the prompt, leave",
    "//": "begins a message that begins with /",
}


class Session:
    """A conversation and how it goes on."""

    def __init__(self, lm: LanguageModel, settings: GenerationSettings) -> None:
        self.lm, self.settings = lm, settings
        self.talk = Conversation(lm)
        self._own: Path | None = None  # the file that may be written again
        self.is_over = False

    def begin(self, system: str | None, load: Path | None) -> None:
        """Start with a system prompt or a saved conversation; of both, the prompt takes the old one's place.

        Errors: of the template, or of messages that it refuses, before anyone has typed.
        """
        messages = [] if load is None else read_messages(load)
        self._own = load
        if system is not None:
            while messages and messages[0].get("role") in HEAD_ROLES:
                del messages[0]
            messages.insert(0, {"role": "system", "content": system})
        Conversation(self.lm, messages).prompt(".", max_new_tokens=self.settings.max_new_tokens)
        self.talk = Conversation(self.lm, messages)

    def answer(self, text: str) -> Stream:
        """The pieces of the answer to a message; `talk.add` makes them part of the conversation."""
        before = self.talk.num_unseen
        ids = self.talk.prompt(text, max_new_tokens=self.settings.max_new_tokens)
        if (unseen := self.talk.num_unseen) > before:
            turns = "turn no longer fits" if unseen == 1 else f"{unseen} turns no longer fit"
            context = self.lm.config.max_positions
            say(f"The oldest {turns} the context of {context} tokens; the model answers without.")
        how: dict[str, Any] = asdict(self.settings)
        return self.lm.stream(ids, how.pop("max_new_tokens"), **how)

    def tell_cut(self, stream: Stream) -> None:
        """Say that an answer was cut, and what lets the next one go on."""
        answer, limit = stream.completion, self.settings.max_new_tokens
        if answer is None or answer.finish_reason != "length":
            return
        if is_context_full(answer, limit):
            context = self.lm.config.max_positions
            say(f"(cut: the context of {context} tokens is full; /reset makes room)")
        else:
            say(f"(cut at {limit} token{'s' * (limit > 1)}; /set max_new_tokens N allows more)")

    def command(self, line: str) -> None:
        """Carry out a line that begins with a slash; UsageError for one that cannot be."""
        name, _, rest = line.strip().partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/set": self._set,
            "/reset": self._reset,
            "/save": self._save,
            "/help": self._help,
            "/exit": self._exit,
        }
        if name not in commands:
            raise UsageError(
                f"no command {name}; {nearest(name, commands)}; a message that begins with / is written //"
            )
        commands[name](rest.strip())

    def _set(self, rest: str) -> None:
        key, _, text = rest.replace("=", " ", 1).partition(" ")
        if key and key not in NUMBERS:
            raise UsageError(f"/set knows no {key!r}; {nearest(key, NUMBERS)}")
        if text.strip():
            self.settings = replace(self.settings, **{key: _number(key, text.strip())})
        elif key:
            raise UsageError(f"/set {key} has no value; write /set {key} NUMBER")
        shown = [key] if key else NUMBERS
        say(", ".join(f"{key} {_shown(getattr(self.settings, key))}" for key in shown))

    def _reset(self, rest: str) -> None:
        self.talk.reset()
        say("The turns are forgotten." + (" The system prompt stays." if self.talk.messages else ""))

    def _save(self, rest: str) -> None:
        if not rest:
            raise UsageError("/save needs a name; write /save FILE.json")
        path = Path(rest).expanduser()
        if path.exists() and path != self._own:
            raise UsageError(f"{path} exists and is not this conversation's; choose another name")
        content = json.dumps(self.talk.messages, indent=2, ensure_ascii=False)
        write_file(path, f"{content}\n".encode())
        self._own = path
        say(f"{len(self.talk.messages)} messages are in {path}; --load {path} resumes.")

    def _help(self, rest: str) -> None:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(style="dim")
        for name, what in HELP.items():
            table.add_row(Text(name), Text(what))
        console(stderr=True).print(table)

    def _exit(self, rest: str) -> None:
        self.is_over = True


def read_messages(path: Path) -> list[dict[str, Any]]:
    """The messages of a file that `/save` wrote, a JSON list; UsageError for any other file."""
    try:
        messages = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a file that /save wrote") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}); name a file that /save wrote") from None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise UsageError(f"{path} holds no list of messages; name a file that /save wrote")
    return messages


def _number(key: str, text: str) -> Any:
    if text == "none" and NUMBERS[key] is None:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    allowed = "a number, or none" if NUMBERS[key] is None else "a number"
    raise UsageError(f"/set {key} {text}: that is no number; give {allowed}")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
