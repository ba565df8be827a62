"""The command line: the verbs in life-cycle order, errors as one line each, and exit codes."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from seedbed import __version__
from seedbed.base.errors import HardwareError, SeedbedError, SeedbedWarning
from seedbed.base.signals import has_stopped, library_works
from seedbed.base.threads import configure_threads, restart_with_tight_heap
from seedbed.cli.chat import chat
from seedbed.cli.demo import demo
from seedbed.cli.doctor import doctor
from seedbed.cli.evaluate import evaluate
from seedbed.cli.export import export
from seedbed.cli.generate import generate
from seedbed.cli.plan import plan
from seedbed.cli.predict import predict
from seedbed.cli.pretrain import pretrain
from seedbed.cli.report import report
from seedbed.cli.resume import resume
from seedbed.cli.settings import settings
from seedbed.cli.tokenizer import tokenizer
from seedbed.cli.tune import tune

# What torch and the system say.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory")
LESS_MEMORY = "take a smaller model or fewer tokens at once, or raise the limit (ulimit -v)"
INTERRUPTED = 128 + signal.SIGINT  # a shell's exit code for a program that Ctrl-C ended

# typer's messages, parts of which are pydantic's, and our wording of the same.
_TYPER_WORDS = {
    r"\. Did you mean (.*)\?$": r"; did you mean \1?",
    r" \(Possible options: (.*)\)$": r"; did you mean \1?",
    r"No such option: ": "no such option ",
    r"Invalid value for '([^']*)': ": r"invalid value for \1: ",
    r"Missing (argument|option) '([^']*)'": r"missing \1 \2",
    r"Input should be a valid (\w+).*": r"not a valid \1",
    r"Value error, ": "",
}

VERBS: dict[str, Callable[..., None]] = {
    verb.__name__: verb
    for verb in (
        *(demo, settings, doctor, plan, tokenizer, pretrain, tune, resume),
        *(evaluate, predict, generate, chat, export, report),
    )
}

app = typer.Typer(
    name="seedbed",
    help="Train, run and inspect language models. The cost of a run is predicted before it starts.",
    epilog="Exit codes: 0 success, 1 failure, 2 wrong usage, 3 target not met, 75 stopped early and saved. "
    "See `seedbed COMMAND --help` for a command's options.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for name, verb in VERBS.items():
    app.command(name, short_help=re.split(r"[.;](?:\s|$)", verb.__doc__ or "")[0])(verb)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"seedbed {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line with this process's arguments and end the process with its exit code."""
    if sys.argv[1:2] and sys.argv[1] in ("demo", "plan", "pretrain", "tune", "resume"):
        restart_with_tight_heap()
    configure_threads()
    _open_streams()
    interrupts = _record_interrupts()
    try:
        code = run(sys.argv[1:], started=time.perf_counter() - _process_seconds())
    except (Exception, KeyboardInterrupt):
        if not interrupts:  # an interrupted library may raise an error of its own
            raise
        code = INTERRUPTED
    if interrupts:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process at once
    if library_works():  # its thread would need the interpreter, which `sys.exit` takes away
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)


def _open_streams() -> None:
    """Write UTF-8 whatever the locale is; a standard stream that is closed has no input and no output."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif name == "stdout":
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        elif name == "stderr":
            notes = open(stream.fileno(), "wb", closefd=False)  # noqa: SIM115
            sys.stderr = _Notes(notes, "utf-8", "backslashreplace", line_buffering=True)


class _Notes(io.TextIOWrapper):
    """Standard error, whose lines are lost where they cannot be written: no answer is lost with them."""

    def write(self, text: str) -> int:
        """Write, or lose it and all that follows."""
        try:
            return super().write(text)
        except OSError:
            self._lose()
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what was not written."""
        try:
            super().flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)


def _process_seconds() -> float:
    """The age of this process, where the system tells it: what Python and the imports took."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0
    return age if 0 < age < 600 else 0.0


def _record_interrupts() -> list[int]:
    """Let Ctrl-C raise KeyboardInterrupt and record it in the returned list; during an import, exit at once.

    torch continues without a library whose import was interrupted, and then fails, hangs or runs to the end.
    """
    recorded: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if has_stopped():  # the first one was for the work, which is saved
            return
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                os._exit(INTERRUPTED)
            frame = frame.f_back
        recorded.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    return recorded


def run(arguments: Sequence[str], *, started: float | None = None) -> int:
    """Run one command and return its exit code; a user's error is one line on stderr, without a traceback.

    A budget counts from `started` on `time.perf_counter`, or from now.
    """
    started = time.perf_counter() if started is None else started
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            code = app(args=arguments, prog_name="seedbed", standalone_mode=False, obj=started)
        sys.stdout.flush()
        return int(code or 0)
    except SeedbedError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        if arguments:
            return _fail(_usage_message(error), error.exit_code)
        print(error.ctx.get_help(), file=sys.stderr)  # type: ignore[attr-defined]
        return error.exit_code
    except MemoryError:
        return _fail(f"memory ran out; {LESS_MEMORY}", HardwareError.exit_code)
    except RuntimeError as error:
        if not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        said = str(error).splitlines()[0].rpartition(": ")[2][:120]  # torch's own place comes before
        return _fail(f"memory ran out ({said}); {LESS_MEMORY}", HardwareError.exit_code)
    except BrokenPipeError:
        # The reader has closed the pipe; Python must not fail again when it flushes stdout at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 1
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115
            return _fail(f"the output cannot be written: {error.strerror}", 1)
        path = f"{error.filename}: " if error.filename else ""
        return _fail(f"{path}{error.strerror or error}; check that the path exists and its permissions", 1)


def _usage_message(error: typer.TyperException) -> str:
    """Return typer's message in the style of ours, with the command that prints the help."""
    message = error.format_message().rstrip(".")
    for pattern, ours in _TYPER_WORDS.items():
        message = re.sub(pattern, ours, message)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "seedbed"
    end = "" if message.endswith("?") else ";"
    return f"{message[0].lower()}{message[1:]}{end} see {command} --help"


def _show_warning(show: Any, message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
    """Print our own warnings as one line on stderr, without the file and line that raised them."""
    if issubclass(category, SeedbedWarning):
        print(f"seedbed: warning: {_line(str(message))}", file=sys.stderr)
    else:
        show(message, category, *place, **more)


def _fail(message: str, code: int) -> int:
    """Print an error as one line and return its exit code."""
    with suppress(OSError):  # the terminal was closed
        print(f"seedbed: {_line(message)}", file=sys.stderr)
    return code


def _line(message: str) -> str:
    """Return a message in one line, for a terminal without control characters."""
    from seedbed.cli.console import shown

    return shown(" ".join(message.split()), stderr=True)
