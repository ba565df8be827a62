"""The settings that a bundle's `generation_config.json` recommends.

`transformers`' generate uses them as defaults. Ours has the defaults of its signature, for every model, and
reports what the file recommends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Settings that change answers and have no counterpart here, with their neutral values.
UNKNOWN: dict[str, Any] = {
    "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "num_beam_groups": 1,
    "diversity_penalty": 0,
    "typical_p": 1,
    "bad_words_ids": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": {},
}


def recommended(generation: Mapping[str, Any], *, is_source: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of ours that the file recommends, and those that are not supported here.

    With `is_source` an encoder reads the prompt, so `max_length` counts the answer's tokens and its start
    token; elsewhere it counts the prompt too and says nothing about max_new_tokens.
    """
    settings: dict[str, Any] = {}
    unknown = {
        name: value
        for name, neutral in UNKNOWN.items()
        if (value := generation.get(name)) is not None and value != neutral
    }
    limit, whole = (_number(generation, name) for name in ("max_new_tokens", "max_length"))
    if limit is not None:
        settings["max_new_tokens"] = limit
    elif is_source and whole is not None:
        settings["max_new_tokens"] = whole - 1
    settings |= _present(generation, ("repetition_penalty", "no_repeat_ngram_size"))
    num_beams, samples = _number(generation, "num_beams") or 1, bool(generation.get("do_sample"))
    if num_beams > 1 and samples:
        unknown |= {"num_beams": num_beams, "do_sample": True}
    elif num_beams > 1:
        settings["num_beams"] = num_beams
        settings |= _present(generation, ("length_penalty", "early_stopping"))
    elif samples:
        settings |= _present(generation, ("temperature", "top_k", "top_p", "min_p"))
    return settings, unknown


def _number(generation: Mapping[str, Any], name: str) -> int | None:
    value = generation.get(name)
    return value if isinstance(value, int) else None


def _present(generation: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: generation[name] for name in names if generation.get(name) is not None}
