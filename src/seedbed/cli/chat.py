"""`seedbed chat`: a conversation in the terminal, or one that comes through a pipe."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seedbed.cli.options import AllowPickle, Device, Json, given_flags, read_settings, takes_settings
from seedbed.generation.settings import GenerationSettings, named_settings

if TYPE_CHECKING:
    from seedbed.cli.chat_session import Session

PROMPT = "> "
NOT_HERE = ["logprobs", *(name for name, setting, _ in named_settings() if not setting.is_streamed)]


@takes_settings(but=NOT_HERE, max_new_tokens=256)
def chat(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="A folder, a .gguf file, package:NAME or org/name that has a chat template."),
    ],
    system: Annotated[str | None, typer.Option(help="What the model is told before all turns.")] = None,
    load: Annotated[Path | None, typer.Option(help="Go on with what /save wrote.")] = None,
    *,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Device = "cpu",
    allow_pickle: AllowPickle = False,
    json: Json = False,
    **flags: Any,
) -> None:
    """Talk with a model; from a pipe each line is a message."""
    from seedbed.cli.chat_session import Session
    from seedbed.cli.console import print_json
    from seedbed.cli.notices import tell_recommended
    from seedbed.generation.loading import load as load_model

    how = read_settings(flags)
    settings = GenerationSettings(**how)
    lm = load_model(model, dtype=dtype, device=device, allow_pickle=allow_pickle)
    tell_recommended(lm, how, given_flags(context))
    session = Session(lm, settings)
    session.begin(system, load)
    if sys.stdin.isatty() and not json:
        _in_terminal(session, model)
        return
    for line in _piped_lines():
        _take_line(session, line.removesuffix("\n"), json)
        if session.is_over:
            break
    if json:
        print_json({"messages": session.talk.messages})


def _piped_lines() -> Iterator[str]:
    from seedbed.base.errors import UsageError

    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise UsageError(f"the input is not UTF-8 ({error.reason}); convert it to UTF-8") from None


def _take_line(session: Session, line: str, is_quiet: bool) -> None:
    """One line of a pipe; an error ends the command."""
    text = _message(session, line)
    if text is None:
        return
    pieces, stream = [], session.answer(text)
    for piece in stream:
        pieces.append(piece)
        if not is_quiet:
            print(piece, end="", flush=True)
    if not is_quiet:
        print(flush=True)
    session.tell_cut(stream)
    session.talk.add(text, "".join(pieces))


def _message(session: Session, line: str) -> str | None:
    """What a line says to the model; None if it says nothing, or was a command, which is carried out."""
    if line.startswith("/") and not line.startswith("//"):
        session.command(line)
        return None
    return line.removeprefix("/") if line.strip() else None


def _in_terminal(session: Session, model: str) -> None:
    """Ask and answer until the user leaves; an error is one line, and the conversation goes on."""
    from seedbed.base.errors import SeedbedError
    from seedbed.cli.console import say

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (lines are edited and found again with the arrow keys)
    context = session.lm.config.max_positions
    size = "" if context is None else f", context of {context} tokens"
    say(f"{model}{size}. /help lists the commands, Ctrl-D leaves.")
    for line in _lines():
        try:
            text = _message(session, line)
            if text is not None:
                _show_answer(session, text)
        except SeedbedError as error:
            say(" ".join(str(error).split()))
        if session.is_over:
            return


def _lines() -> Iterator[str]:
    """The lines that a user types, until Ctrl-D or Ctrl-C."""
    while True:
        try:
            line = input(PROMPT)
        except UnicodeDecodeError:
            continue  # keys of another encoding than the terminal's
        except (EOFError, KeyboardInterrupt):
            print()
            return
        yield line


def _show_answer(session: Session, text: str) -> None:
    """Stream an answer, broken between words; Ctrl-C ends it, and what came of it is kept."""
    from seedbed.cli.console import MAX_COLUMNS, say
    from seedbed.cli.wrapping import StreamWrap

    wrap = StreamWrap(min(shutil.get_terminal_size().columns, MAX_COLUMNS))
    pieces: list[str] = []
    is_cut = False
    stream = session.answer(text)
    try:
        for piece in stream:
            pieces.append(piece)
            print(wrap.push(piece), end="", flush=True)
    except KeyboardInterrupt:
        is_cut = True
    answer = "".join(pieces)
    print(wrap.flush(), flush=True)
    if not answer:
        said = "Stopped before an answer began; the message is taken back." if is_cut else "(an empty answer)"
        say(said)
    elif is_cut:
        say("(stopped; what came of the answer stays in the conversation)")
    session.tell_cut(stream)
    if answer or not is_cut:
        session.talk.add(text, answer)
    print()
