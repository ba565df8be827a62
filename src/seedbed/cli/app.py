"""The command line: the verbs in life-cycle order, and what becomes of an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer

from seedbed import __version__
from seedbed.base.errors import SeedbedError
from seedbed.base.threads import keep_few_kernels, spin_briefly
from seedbed.cli.demo import demo
from seedbed.cli.doctor import doctor
from seedbed.cli.generate import generate
from seedbed.cli.plan import plan
from seedbed.cli.pretrain import pretrain
from seedbed.cli.report import report
from seedbed.cli.tokenizer import tokenizer

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "doctor": doctor,
    "plan": plan,
    "tokenizer": tokenizer,
    "pretrain": pretrain,
    "generate": generate,
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
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; what a user can cause is one line on stderr, never a
    traceback."""
    try:
        code = app(args=arguments, prog_name="seedbed", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except SeedbedError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} See seedbed --help.", error.exit_code)
    except BrokenPipeError:
        # The reader has gone; Python must not find that out again when it flushes at the end.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 1
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}", 1)


def _fail(message: str, code: int) -> int:
    """Print an error as one line and return its exit code."""
    print(f"seedbed: {' '.join(message.split())}", file=sys.stderr)
    return code
