"""The settings that a bundle's `generation_config.json` recommends: reported, and not used as defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.generation.settings import Sampling, named_settings

# Settings that change answers and have no counterpart here, with their neutral values.
UNKNOWN: dict[str, Any] = {
    "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "num_beam_groups": 1,
    "diversity_penalty": 0,
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
    values = {name: value for name, value in generation.items() if value is not None}
    counts = {name: value for name, value in values.items() if isinstance(value, int)}
    unknown = {
        name: values[name] for name, neutral in UNKNOWN.items() if values.get(name, neutral) != neutral
    }
    names = ["max_new_tokens", "repetition_penalty", "no_repeat_ngram_size"]
    if "max_new_tokens" not in counts:
        values.pop("max_new_tokens", None)
        if is_source and "max_length" in counts:
            values["max_new_tokens"] = counts["max_length"] - 1
    num_beams, samples = counts.get("num_beams", 1), bool(values.get("do_sample"))
    if num_beams > 1 and samples:
        unknown |= {"num_beams": num_beams, "do_sample": True}
    elif num_beams > 1:
        names += ["num_beams", "length_penalty", "early_stopping"]
    elif samples:
        names += Sampling._fields
    off = {name: (*setting.neutral, default) for name, setting, default in named_settings()}
    off["max_new_tokens"] = ()  # the default of `chat` is another one
    return {name: values[name] for name in names if values.get(name) not in (None, *off[name])}, unknown
