"""The flags that several verbs share, and how their values are parsed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import typer

from seedbed.generation.settings import GenerationSettings, named_settings

Verb = TypeVar("Verb", bound=Callable[..., None])

_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: str) -> float:
    """Parse a duration (`90`, `90s`, `10m`, `1.5h`) into seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip())
    if not match or float(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a duration; use 90s, 10m or 1.5h.")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


# The flags that differ from their settings: type, default and placeholder.
_FORMS: dict[str, tuple[Any, Any, str]] = {
    "stop": (list[str] | None, None, "TEXT"),
    "early_stopping": (Literal["true", "false", "never"] | None, None, "WHEN"),
}
_WITHOUT_FLAG = {"eos_ids"}  # token ids are for Python


def takes_settings(*, but: Collection[str] = (), **defaults: Any) -> Callable[[Verb], Verb]:
    """Add a flag for each generation setting except `but`, before the verb's keyword-only parameters.

    The verb accepts their values as `**flags` and gets the settings from `read_settings`; `defaults` replace
    the settings' own.
    """
    keyword, types = inspect.Parameter.KEYWORD_ONLY, get_type_hints(GenerationSettings)

    def decorate(verb: Verb) -> Verb:
        flags = []
        for name, setting, default in named_settings():
            if name in _WITHOUT_FLAG.union(but):
                continue
            metavar = "N" if int in (types[name], *get_args(types[name])) else "X"
            kind, value, metavar = _FORMS.get(name, (types[name], defaults.get(name, default), metavar))
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


def read_settings(context: typer.Context) -> tuple[dict[str, Any], set[str]]:
    """Return the generation settings that the flags set, and the parameters that are on the command line."""
    flags = context.params
    how = {name: flags[name] for name, _, _ in named_settings() if name in flags}
    how["stop"] = tuple(how["stop"] or ())
    if how.get("early_stopping") in ("true", "false"):
        how["early_stopping"] = how["early_stopping"] == "true"
    sources = {name: context.get_parameter_source(name) for name in flags}
    return how, {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


MODEL_HELP = "A bundle or run folder, a .gguf file, package:NAME, or org/name on the hub."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="The output folder.", show_default=False)]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A TOML file of settings.")]
Budget = Annotated[
    float | None, typer.Option(metavar="TIME", parser=parse_seconds, help="The time limit: 60s, 10m, 1h.")
]
TimeFromNow = Annotated[
    float | None,
    typer.Option("--budget", metavar="TIME", parser=parse_seconds, help="Train for this time from now: 10m."),
]
TensorBoardFlag = Annotated[
    bool, typer.Option("--tensorboard", help="Also write metrics to RUN/tensorboard (extra: track).")
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
Force = Annotated[
    bool, typer.Option("--force", help="Replace another model or tokenizer in the output folder.")
]
Show = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Print the first N training examples, inputs and targets, and exit. Tokenizer and shards "
        "stay in --out, and the run uses them.",
    ),
]
