"""The flags that several verbs share, and how the words in them are read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import typer

from seedbed.generation.settings import GenerationSettings, named_settings

Verb = TypeVar("Verb", bound=Callable[..., None])

_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: str | float) -> float:
    """Read a duration: `90`, `90s`, `10m`, `1.5h`; typer sends a flag's default, a number, through it too."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip())
    if not match or float(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 10m or 1.5h.")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def given_flags(context: typer.Context) -> set[str]:
    """The parameters that the user wrote, those with their default's value too."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    return {name for name, source in sources if source is not None and source.name == "COMMANDLINE"}


class Form(NamedTuple):
    """A flag of another type than its setting: its type and default, and how its value is read."""

    kind: Any
    default: Any
    read: Callable[[Any], Any]


_FORMS = {
    "stop": Form(list[str] | None, None, lambda texts: tuple(texts or ())),
    "early_stopping": Form(
        Literal["true", "false", "never"],
        "false",
        {"true": True, "false": False, "never": "never"}.__getitem__,
    ),
}
PANEL = "Settings of an answer"  # a table of their own in the help, wide enough for the longest name
_WITHOUT_FLAG = {"eos_ids"}  # token ids are for Python


def takes_settings(*, but: Collection[str] = (), **defaults: Any) -> Callable[[Verb], Verb]:
    """Give a verb a flag for each setting of an answer, `but` some, where its keyword-only parameters begin.

    The verb gets their values as `**flags`, for `read_settings`; `defaults` are its own.
    """
    keyword, types = inspect.Parameter.KEYWORD_ONLY, get_type_hints(GenerationSettings)

    def decorate(verb: Verb) -> Verb:
        flags = []
        for name, setting, default in named_settings():
            own_default = defaults.get(name, default)
            form = _FORMS.get(name, Form(types[name], own_default, lambda value: value))
            option = typer.Option(
                f"--{name.replace('_', '-')}",
                help=setting.meaning,
                metavar="N" if int in (types[name], *get_args(types[name])) else "X",
                rich_help_panel=PANEL,
            )
            kind: Any = Annotated[form.kind, option]
            if name not in _WITHOUT_FLAG.union(but):
                flags.append(inspect.Parameter(name, keyword, default=form.default, annotation=kind))
        signature = inspect.signature(verb, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        start = sum(each.kind is not keyword for each in own)
        whole = signature.replace(parameters=[*own[:start], *flags, *own[start:]])
        verb.__signature__ = whole  # type: ignore[attr-defined]
        return verb

    return decorate


def read_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """The settings that flags stand for."""
    return {name: _FORMS[name].read(value) if name in _FORMS else value for name, value in flags.items()}


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.", show_default=False)]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", metavar="TIME", parser=parse_seconds, help="The time it may take: 60s, 10m, 1h."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting by its key: training.seed=1. Repeat for more."
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:N or mps; auto takes a GPU if there is one.")
]
Fill = Annotated[
    bool, typer.Option("--fill", help="Fill the blanks ___ of each prompt; 16 tokens at most in each.")
]
NumCandidates = Annotated[int, typer.Option(help="With --fill: candidates shown for each blank.")]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read pytorch_model.bin if there is no safetensors; tensors alone."),
]
Show = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Print the run's first N examples, what is read and what must be predicted, and train "
        "nothing. The tokenizer and the shards stay in --out, and the run goes on with them.",
    ),
]
