"""The command line: the verbs in life-cycle order, and what becomes of an error."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from seedbed import __version__
from seedbed.base.errors import SeedbedError, SeedbedWarning
from seedbed.base.threads import keep_few_kernels, spin_briefly
from seedbed.cli.chat import chat
from seedbed.cli.demo import demo
from seedbed.cli.doctor import doctor
from seedbed.cli.export import export
from seedbed.cli.generate import generate
from seedbed.cli.plan import plan
from seedbed.cli.pretrain import pretrain
from seedbed.cli.report import report
from seedbed.cli.tokenizer import tokenizer

INTERRUPTED = 128 + signal.SIGINT  # what a shell expects of a program that Ctrl-C ended

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "doctor": doctor,
    "plan": plan,
    "tokenizer": tokenizer,
    "pretrain": pretrain,
    "generate": generate,
    "chat": chat,
    "export": export,
    "report": report,
}

app = typer.Typer(
    name="seedbed",
    help="Grow a language model from an idea to an application, "
    "and know what each step costs before it is spent.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 target not met, 75 stopped early and saved.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, verb in VERBS.items():
    app.command(name)(verb)


def _print_version(wanted: bool) -> None:
    if wanted:
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
    spin_briefly()
    keep_few_kernels()
    interrupts = _noted_interrupts()
    try:
        code = run(sys.argv[1:])
    except (Exception, KeyboardInterrupt):
        if not interrupts:  # a library that is cut may fail in its own way
            raise
        code = INTERRUPTED
    if interrupts:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one ends what is left at once
    sys.exit(code)


def _noted_interrupts() -> list[int]:
    """Let Ctrl-C raise KeyboardInterrupt, noted in the list that is returned; in an import it ends at once.

    torch goes on without a library whose import was cut, and fails, hangs or does its work to the end.
    """
    noted: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                os._exit(INTERRUPTED)
            frame = frame.f_back
        noted.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    return noted


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; what a user can cause is one line on stderr, no traceback."""
    try:
        with _told_warnings():
            code = app(args=arguments, prog_name="seedbed", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except SeedbedError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        help_command = f"{context.command_path if context else 'seedbed'} --help"
        return _fail(f"{error.format_message().rstrip('.')}; see {help_command}", error.exit_code)
    except BrokenPipeError:
        # The reader has gone; Python must not find that out again when it flushes at the end.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}; see that it is there and who may use it", 1)


@contextmanager
def _told_warnings() -> Iterator[None]:
    """Print our own warnings as one line on stderr, without the place in the code."""
    show = warnings.showwarning

    def tell(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, SeedbedWarning):
            print(f"seedbed: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            show(message, category, *place, **more)

    warnings.showwarning = tell
    try:
        yield
    finally:
        warnings.showwarning = show


def _fail(message: str, code: int) -> int:
    """Print an error as one line and return its exit code."""
    print(f"seedbed: {' '.join(message.split())}", file=sys.stderr)
    return code
