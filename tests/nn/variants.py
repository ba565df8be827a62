"""Small configs with every word of every field: a new word is tested without an edit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from itertools import combinations
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seedbed.nn.config import HeadConfig, ModelConfig, NormPlace, ResidualConfig

PLACES: tuple[NormPlace, ...] = get_args(NormPlace)
RESIDUALS = [
    ResidualConfig(norms=norms, parallel=parallel)
    for number in range(1, len(PLACES) + 1)
    for norms in combinations(PLACES, number)
    for parallel in (False, True)
]


def variants(base: ModelConfig, *names: str) -> dict[str, ModelConfig]:
    """The base with each word and each truth value of a field, one at a time: `position.kind=alibi`.

    Of all fields but the head, which needs labels; or of those in `names`.
    """
    found = dict(_changes(base, ""))
    assert set(names) <= {name.partition("=")[0] for name in found}, names
    return {name: config for name, config in found.items() if not names or name.partition("=")[0] in names}


def words(kind: type[Any], name: str) -> tuple[str, ...]:
    """The allowed words of a field; none if it has another type."""
    hint = get_type_hints(kind)[name]
    return get_args(hint) if get_origin(hint) is Literal else ()


def _changes(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(type(config)).items():
        if hint is HeadConfig:
            continue
        if hint is ResidualConfig:
            for residual in RESIDUALS:
                label = "+".join(residual.norms) + " parallel" * residual.parallel
                yield f"{prefix}{name}={label}", replace(config, **{name: residual})
        elif is_dataclass(hint):
            for label, inner in _changes(getattr(config, name), f"{prefix}{name}."):
                yield label, replace(config, **{name: inner})
        else:
            values = get_args(hint) if get_origin(hint) is Literal else (False, True) if hint is bool else ()
            for value in values:
                yield f"{prefix}{name}={value}", replace(config, **{name: value})
