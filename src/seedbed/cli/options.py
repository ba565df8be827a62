"""The flags that several verbs share, and how their values are parsed."""

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
    """Parse a duration (`90`, `90s`, `10m`, `1.5h`) into seconds; typer passes a default, a number, too."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip())
    if not match or float(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a duration; use 90s, 10m or 1.5h.")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def given_flags(context: typer.Context) -> set[str]:
    """Return the parameters that are on the command line, whatever their values."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    return {name for name, source in sources if source is not None and source.name == "COMMANDLINE"}


class Form(NamedTuple):
    """A flag that differs from its setting: its type, default and placeholder, and its parser."""

    kind: Any
    default: Any
    metavar: str
    parse: Callable[[Any], Any]


_FORMS = {
    "stop": Form(list[str] | None, None, "TEXT", lambda texts: tuple(texts or ())),
    "early_stopping": Form(
        Literal["true", "false", "never"],
        "false",
        "WHEN",
        {"true": True, "false": False, "never": "never"}.__getitem__,
    ),
}
_WITHOUT_FLAG = {"eos_ids"}  # token ids are for Python


def takes_settings(*, but: Collection[str] = (), **defaults: Any) -> Callable[[Verb], Verb]:
    """Add a flag for each generation setting except `but`, before the verb's keyword-only parameters.

    The verb gets their values as `**flags`, for `read_settings`; `defaults` replace the settings' own.
    """
    keyword, types = inspect.Parameter.KEYWORD_ONLY, get_type_hints(GenerationSettings)

    def decorate(verb: Verb) -> Verb:
        flags = []
        for name, setting, default in named_settings():
            if name in _WITHOUT_FLAG.union(but):
                continue
            kind, value = types[name], defaults.get(name, default)
            metavar = "N" if int in (kind, *get_args(kind)) else "X"
            if name in _FORMS:
                kind, value, metavar, _ = _FORMS[name]
            option = typer.Option(flag_of(name), help=setting.meaning, metavar=metavar)
            annotation: Any = Annotated[kind, option]
            flags.append(inspect.Parameter(name, keyword, default=value, annotation=annotation))
        signature = inspect.signature(verb, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        start = sum(each.kind is not keyword for each in own)
        extended = signature.replace(parameters=[*own[:start], *flags, *own[start:]])
        verb.__signature__ = extended  # type: ignore[attr-defined]
        return verb

    return decorate


def flag_of(name: str) -> str:
    """Return the flag of a setting: `max_new_tokens` -> `--max-new-tokens`."""
    return f"--{name.replace('_', '-')}"


def read_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the flags set."""
    return {name: _FORMS[name].parse(value) if name in _FORMS else value for name, value in flags.items()}


MODEL_HELP = "A bundle or run folder, a .gguf file, package:NAME, or org/name on the hub."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="The output folder.", show_default=False)]
Budget = Annotated[
    float | None, typer.Option(metavar="TIME", parser=parse_seconds, help="The time limit: 60s, 10m, 1h.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set one setting: training.seed=1. Repeat for more."),
]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:N or mps; auto: a GPU if there is one.")
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="float32, bfloat16 or float16.")]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", help="Load pytorch_model.bin if there is no safetensors file; tensors only."
    ),
]
Show = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Print the first N training examples, inputs and targets, and exit. Tokenizer and shards "
        "stay in --out, and the run uses them.",
    ),
]
